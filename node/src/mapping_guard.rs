//! The last line behind an mmap disk whose file is cut under a running process, or whose device no longer reads: SIGBUS.
//!
//! The renewal looks at the length each cycle, and this is for what comes between two looks (protocol §1.3). The handler shuts every
//! gate, says one fixed line and ends the process with code 74, which its warden sees as any other death. It is installed by the
//! binary and never by the library: an application decides about its own signals.
//!
//! Never: hides a fault outside the mappings, which is what it would be without this.
#![expect(
    unsafe_code,
    reason = "a signal handler is installed by a call of the C library; the handler touches atomics only"
)]

use std::io;

use phalanx_actors::gate;
use phalanx_storage::mappings;

/// Exit code "shared-disk I/O".
const EXIT_DISK: i32 = 74;
/// What is said, in one write.
pub const LINE: &str =
    "error: the shared disk was cut, or cannot be read, where it is mapped (SIGBUS): this process ends at once\n";

/// Installs the handler for this process.
///
/// # Errors
/// What the system says.
pub fn install() -> io::Result<()> {
    // SAFETY: all bytes zero is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_bus_error as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler has the signature that SA_SIGINFO asks for and does only what a handler may do.
    let installed = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `siginfo_t`; for a fault it holds the address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let is_fault = code > 0; // else somebody has sent it
    if is_fault && mappings::contain(address) {
        gate::close_all_for_good();
        // SAFETY: `write` and `_exit` may be called in a signal handler; the text is valid for its length.
        unsafe {
            libc::write(libc::STDERR_FILENO, LINE.as_ptr().cast(), LINE.len());
            libc::_exit(EXIT_DISK);
        }
    }
    // SAFETY: both may be called in a signal handler. What is raised comes when this returns, with its default effect.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
