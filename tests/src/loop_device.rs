//! A real block device for tests: a loop device over a file, taken down again when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::NamedTempFile;

/// See the module. Needs `Requirement::Loop`.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _file: NamedTempFile,
}

impl LoopDevice {
    /// A device of that many bytes, all zero, with logical blocks of `sector_bytes` (512 to 4096). Its own I/O on the file is
    /// direct where the file allows that.
    ///
    /// # Panics
    /// If it cannot be set up.
    #[must_use]
    pub fn new(bytes: u64, sector_bytes: u32) -> Self {
        let file = NamedTempFile::new().expect("a file can be made");
        file.as_file().set_len(bytes).expect("it can have that length");
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--sector-size", &sector_bytes.to_string()]).arg(file.path());
        let output = command.output().expect("losetup can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "no loop device: {said}");
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        Self { path, _file: file }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be detached", self.path.display());
        }
    }
}
