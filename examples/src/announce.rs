//! Tells the neighbours on a link who has an address now: gratuitous ARP (RFC 5227) or an unsolicited neighbour advertisement
//! (RFC 4861, 7.2.6).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ARP_ETHERNET: u16 = 1;
const ARP_REQUEST: u16 = 1;
/// ICMPv6: neighbour advertisement, its flag "override", its option "target link-layer address".
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Neighbours believe no advertisement that could have come through a router.
const ON_LINK_HOPS: u32 = 255;

/// Says once that `ip` is at `mac`, to everybody on the link of `device`. Needs the right to open raw sockets.
///
/// # Errors
/// What the operating system says.
pub fn announce(ip: IpAddr, device: &str, mac: [u8; 6]) -> io::Result<()> {
    let index = interface_index(device)?;
    match ip {
        IpAddr::V4(ip) => send_frame(index, &arp(ip, mac)),
        IpAddr::V6(ip) => advertise(index, ip, mac),
    }
}

fn interface_index(device: &str) -> io::Result<u32> {
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&any, device)?)
}

/// A broadcast that asks for its own sender: whoever has an entry for it takes the new one.
fn arp(ip: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&mac);
    for word in [ETHERTYPE_ARP, ARP_ETHERNET, ETHERTYPE_IPV4] {
        frame.extend_from_slice(&word.to_be_bytes());
    }
    frame.extend_from_slice(&[6, 4]);
    frame.extend_from_slice(&ARP_REQUEST.to_be_bytes());
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&ip.octets());
    frame.extend_from_slice(&[0; 6]);
    frame.extend_from_slice(&ip.octets());
    frame
}

#[expect(unsafe_code, reason = "the address of a packet socket")]
fn send_frame(index: u32, frame: &[u8]) -> io::Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let wrong = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut halen = [0; 8];
    halen[..6].copy_from_slice(&BROADCAST);
    let to = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(wrong)?,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex: i32::try_from(index).map_err(wrong)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: halen,
    };
    let length = libc::socklen_t::try_from(size_of_val(&to)).map_err(wrong)?;
    // SAFETY: the frame and the address are valid for as long as the call lasts, and their lengths are theirs.
    let sent = unsafe {
        libc::sendto(
            std::os::fd::AsRawFd::as_raw_fd(&socket),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn advertise(index: u32, ip: Ipv6Addr, mac: [u8; 6]) -> io::Result<()> {
    let kind = SocketType::RAW;
    let socket = rustix::net::socket_with(AddressFamily::INET6, kind, SocketFlags::CLOEXEC, Some(ipproto::ICMPV6))?;
    sockopt::set_ipv6_multicast_hops(&socket, ON_LINK_HOPS)?;
    let mut message = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0]; // the kernel fills the checksum in
    message.extend_from_slice(&ip.octets());
    message.extend_from_slice(&[TARGET_LINK_ADDRESS, 1]);
    message.extend_from_slice(&mac);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrV6::new(ALL_NODES, 0, 0, index))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_for_its_own_address() {
        let (mac, ip) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(10, 0, 0, 100));
        let frame = arp(ip, mac);
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&BROADCAST[..], &mac[..], &[8, 6][..]));
        assert_eq!((&frame[22..28], &frame[28..32], &frame[38..]), (&mac[..], &ip.octets()[..], &ip.octets()[..]));
    }
}
