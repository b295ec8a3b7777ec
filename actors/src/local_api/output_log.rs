//! The output of one service's commands on this node: the end of its file, and what is added to it.
//!
//! Reading blocks, so callers run it on a thread that nothing waits for.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Bytes looked at for the last lines.
const TAIL_BYTES: u64 = 256 * 1024;
/// Bytes of additions read at once.
const NEWS_BYTES: u64 = 256 * 1024;
/// A line longer than this is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct OutputLog {
    path: PathBuf,
    inode: u64,
    offset: u64,
    /// Begin of a line that has no end yet.
    begun: Vec<u8>,
}

impl OutputLog {
    pub const fn new(path: PathBuf) -> Self {
        Self { path, inode: 0, offset: 0, begun: Vec::new() }
    }

    /// The last `count` lines; additions are counted from there. No file is no line.
    pub fn tail(&mut self, count: usize) -> io::Result<Vec<String>> {
        let Some(mut file) = self.open()? else { return Ok(Vec::new()) };
        let length = file.metadata()?.len();
        let begin = length.saturating_sub(TAIL_BYTES);
        self.offset = begin;
        let mut lines = self.read(&mut file, TAIL_BYTES)?;
        if begin > 0 && !lines.is_empty() {
            lines.remove(0); // its begin was not read
        }
        Ok(lines.split_off(lines.len().saturating_sub(count)))
    }

    /// The lines that were ended since the last look.
    pub fn news(&mut self) -> io::Result<Vec<String>> {
        let Some(mut file) = self.open()? else { return Ok(Vec::new()) };
        if file.metadata()?.len() < self.offset {
            self.offset = 0; // somebody emptied it
        }
        self.read(&mut file, NEWS_BYTES)
    }

    /// What the last line says so far.
    pub fn unfinished(&self) -> Option<String> {
        (!self.begun.is_empty()).then(|| text(&self.begun))
    }

    /// A file that was put aside is left for the one that took its place.
    fn open(&mut self) -> io::Result<Option<File>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        if inode != self.inode {
            (self.inode, self.offset) = (inode, 0);
            self.begun.clear();
        }
        Ok(Some(file))
    }

    fn read(&mut self, file: &mut File, bytes_max: u64) -> io::Result<Vec<String>> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        let count = file.take(bytes_max).read_to_end(&mut bytes)?;
        self.offset += u64::try_from(count).unwrap_or(0);
        let mut lines = Vec::new();
        for byte in bytes {
            if byte == b'\n' || self.begun.len() == LINE_BYTES_MAX {
                lines.push(text(&std::mem::take(&mut self.begun)));
            }
            if byte != b'\n' {
                self.begun.push(byte);
            }
        }
        Ok(lines)
    }
}

/// Whatever a command printed, as a line that a terminal shows and does not obey.
fn text(bytes: &[u8]) -> String {
    let shown = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    String::from_utf8_lossy(bytes).trim_end_matches('\r').chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_end_is_shown_then_what_is_added_also_to_a_new_file_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("service-clock.log");
        let mut log = OutputLog::new(path.clone());
        assert_eq!(log.tail(2).unwrap(), Vec::<String>::new(), "no file is no line");
        let mut file = File::options().create(true).append(true).open(&path).unwrap();
        writeln!(file, "one\ntwo\x1b[2J").unwrap();
        write!(file, "three").unwrap();
        assert_eq!(log.tail(1).unwrap(), ["two\u{fffd}[2J"]);
        assert_eq!(log.unfinished().as_deref(), Some("three"));
        writeln!(file, "!").unwrap();
        assert_eq!(log.news().unwrap(), ["three!"]);
        assert_eq!(log.news().unwrap(), Vec::<String>::new());

        std::fs::rename(&path, dir.path().join("service-clock.log.1")).unwrap();
        std::fs::write(&path, "four\n").unwrap();
        assert_eq!(log.news().unwrap(), ["four"]);
    }

    #[test]
    fn a_large_file_gives_whole_lines_and_an_endless_one_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, format!("{}\n", "0123456789".repeat(10)).repeat(10_000)).unwrap();
        let lines = OutputLog::new(path.clone()).tail(usize::MAX).unwrap();
        assert!(lines.len() > 1_000 && lines.iter().all(|line| line.len() == 100));
        std::fs::write(&path, "x".repeat(3 * LINE_BYTES_MAX)).unwrap();
        assert!(OutputLog::new(path).tail(9).unwrap().iter().all(|line| line.len() <= LINE_BYTES_MAX));
    }
}
