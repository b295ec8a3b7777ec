//! The calls of a Linux watchdog device (kernel documentation, "The Linux Watchdog driver API").

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::ioctl::{Getter, Opcode, Updater, ioctl, opcode};

use super::{Abilities, Calls};

/// `struct watchdog_info`.
#[repr(C)]
struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

const GROUP: u8 = b'W';
const GET_SUPPORT: Opcode = opcode::read::<Info>(GROUP, 0);
const GET_BOOT_STATUS: Opcode = opcode::read::<i32>(GROUP, 2);
const SET_TIMEOUT: Opcode = opcode::read_write::<i32>(GROUP, 6);
const GET_TIMEOUT: Opcode = opcode::read::<i32>(GROUP, 7);
const SET_PRETIMEOUT: Opcode = opcode::read_write::<i32>(GROUP, 8);

/// Bits of `watchdog_info.options` and of the boot status.
const CARD_RESET: u32 = 0x20;
const SETTIMEOUT: u32 = 0x80;
const MAGICCLOSE: u32 = 0x100;
const PRETIMEOUT: u32 = 0x200;

/// An open device, armed by being opened.
#[derive(Debug)]
pub(super) struct Device(File);

impl Device {
    /// Opens a character device. Not exclusive beyond the kernel's own rule: one opener at a time.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.file_type().is_char_device() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no character device"));
        }
        OpenOptions::new().write(true).open(path).map(Self)
    }

    #[expect(unsafe_code, reason = "an ioctl")]
    fn get<const OPCODE: Opcode>(&self) -> io::Result<i32> {
        // SAFETY: every opcode used here makes the kernel write one `int`.
        Ok(unsafe { ioctl(&self.0, Getter::<OPCODE, i32>::new()) }?)
    }

    #[expect(unsafe_code, reason = "an ioctl")]
    fn set<const OPCODE: Opcode>(&self, seconds: u32) -> io::Result<()> {
        let mut value = i32::try_from(seconds).map_err(io::Error::other)?;
        // SAFETY: every opcode used here makes the kernel read and write one `int`.
        Ok(unsafe { ioctl(&self.0, Updater::<OPCODE, i32>::new(&mut value)) }?)
    }
}

impl Calls for Device {
    #[expect(unsafe_code, reason = "an ioctl")]
    fn abilities(&mut self) -> io::Result<Abilities> {
        // SAFETY: the kernel writes one `struct watchdog_info`.
        let info: Info = unsafe { ioctl(&self.0, Getter::<GET_SUPPORT, Info>::new()) }?;
        let boot = self.get::<GET_BOOT_STATUS>().unwrap_or(0).cast_unsigned();
        let text = info.identity.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Abilities {
            identity: String::from_utf8_lossy(text).into_owned(),
            sets_timeout: info.options & SETTIMEOUT != 0,
            sets_pretimeout: info.options & PRETIMEOUT != 0,
            lets_go: info.options & MAGICCLOSE != 0,
            has_fired: boot & CARD_RESET != 0,
        })
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<()> {
        self.set::<SET_TIMEOUT>(seconds)
    }

    fn timeout(&mut self) -> io::Result<u32> {
        u32::try_from(self.get::<GET_TIMEOUT>()?).map_err(io::Error::other)
    }

    fn set_pretimeout(&mut self, seconds: u32) -> io::Result<()> {
        self.set::<SET_PRETIMEOUT>(seconds)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}
