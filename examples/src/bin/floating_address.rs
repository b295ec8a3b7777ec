//! One address that is always on exactly one node: the first example of a client service in the spec.
//!
//! ```text
//! floating_address add 10.0.0.100/24 eth0       start_command: puts the address on this host and tells the neighbours
//! floating_address remove 10.0.0.100/24 eth0    stop_command: takes it away; fails unless it is gone
//! floating_address answer 10.0.0.100:7000       answers every datagram with the name of this node, for trying it out
//! ```
//!
//! See `configs/floating-address.toml`. Both commands may run any number of times, as every command of a service must. The stop
//! command also runs after the death of a node, by its warden: an address outlives the process that has put it there.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use futures_util::TryStreamExt as _;
use phalanx_examples::announce::announce;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::LinkAttribute;

const USAGE: &str = "usage: floating_address add|remove ADDRESS/PREFIX DEVICE, or floating_address answer ADDRESS:PORT";
/// How often the neighbours are told, in case they miss it once.
const ANNOUNCEMENTS: usize = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["add", address, device] => change(true, address, device),
        ["remove", address, device] => change(false, address, device),
        ["answer", address] => answer(address),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn change(wanted: bool, address: &str, device: &str) -> anyhow::Result<()> {
    let (ip, prefix) = parse(address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mac = runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("failed to open a netlink socket")?;
        tokio::spawn(connection);
        let interface = find(&handle, device).await?;
        let there = addresses(&handle, interface.index, ip).await?;
        match (wanted, there.is_empty()) {
            (true, true) => handle
                .address()
                .add(interface.index, ip, prefix)
                .execute()
                .await
                .with_context(|| format!("failed to put {address} on {device}"))?,
            (false, false) => {
                for message in there {
                    let removed = handle.address().del(message).execute().await;
                    removed.with_context(|| format!("failed to take {address} from {device}"))?;
                }
                if !addresses(&handle, interface.index, ip).await?.is_empty() {
                    bail!("{address} is still on {device}");
                }
            }
            (true, false) | (false, true) => {}
        }
        Ok(interface.mac)
    })?;
    if wanted {
        // Whoever has talked to the former owner still has its hardware address.
        for _ in 0..ANNOUNCEMENTS {
            announce(ip, device, mac).with_context(|| format!("failed to announce {address} on {device}"))?;
        }
    }
    Ok(())
}

fn parse(text: &str) -> anyhow::Result<(IpAddr, u8)> {
    let wrong = || format!("`{text}` is not ADDRESS/PREFIX, as in 10.0.0.100/24");
    let (ip, prefix) = text.split_once('/').with_context(wrong)?;
    let (ip, prefix): (IpAddr, u8) = (ip.parse().with_context(wrong)?, prefix.parse().with_context(wrong)?);
    if prefix > if ip.is_ipv4() { 32 } else { 128 } {
        bail!(wrong());
    }
    Ok((ip, prefix))
}

struct Interface {
    index: u32,
    mac: [u8; 6],
}

async fn find(handle: &rtnetlink::Handle, device: &str) -> anyhow::Result<Interface> {
    let mut links = handle.link().get().match_name(device.to_owned()).execute();
    let link = links.try_next().await.with_context(|| format!("there is no network device `{device}`"))?;
    let link = link.with_context(|| format!("there is no network device `{device}`"))?;
    let mac = link.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Address(mac) = attribute { <[u8; 6]>::try_from(mac.as_slice()).ok() } else { None }
    });
    Ok(Interface { index: link.header.index, mac: mac.with_context(|| format!("`{device}` is no Ethernet device"))? })
}

/// Every entry of that address on the device.
async fn addresses(handle: &rtnetlink::Handle, index: u32, ip: IpAddr) -> anyhow::Result<Vec<AddressMessage>> {
    let all = handle.address().get().set_link_index_filter(index).execute();
    let all: Vec<AddressMessage> = all.try_collect().await.context("failed to list the addresses")?;
    let is_it = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(it) if *it == ip);
    Ok(all.into_iter().filter(|message| message.attributes.iter().any(is_it)).collect())
}

fn answer(address: &str) -> anyhow::Result<()> {
    let address: SocketAddr = address.parse().with_context(|| format!("`{address}` is not ADDRESS:PORT"))?;
    let node = std::env::var("PHALANX_NODE").unwrap_or_default();
    let socket = UdpSocket::bind(address).with_context(|| format!("failed to listen on {address}"))?;
    let mut question = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut question)?;
        socket.send_to(node.as_bytes(), from).ok(); // whoever asked may have gone
    }
}
