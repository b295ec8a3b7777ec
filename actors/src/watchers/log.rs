//! `log`: a line of a file matches a pattern. What was in the file before is not looked at. A file that is rotated away is read to
//! its end, and the new one from its beginning; so is one that was cut.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;
use phalanx_messages::limits::EVENT_VALUE_BYTES_MAX;
use regex::Regex;

use super::{Input, Looks, NoWatch, Watch, out, text};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) struct Log {
    path: PathBuf,
    pattern: Regex,
    looks: Looks,
    reader: Option<Reader>,
    found: VecDeque<String>,
}

impl Log {
    pub fn new(input: Input<'_>) -> Result<Self, NoWatch> {
        let pattern = input.required_text("pattern")?;
        Ok(Self {
            path: input.required_text("path")?.into(),
            pattern: Regex::new(&pattern).map_err(|error| NoWatch(error.to_string()))?,
            looks: Looks::every(input.interval()?),
            reader: Some(Reader::default()),
            found: VecDeque::new(),
        })
    }

    /// Reads on, on a thread for blocking work: a disk that hangs holds up nothing else. False = there may be more at once.
    async fn look(&mut self) -> bool {
        let mut reader = self.reader.take().unwrap_or_default();
        let (path, pattern) = (self.path.clone(), self.pattern.clone());
        let read = tokio::task::spawn_blocking(move || {
            let read = reader.read(&path);
            let lines = reader.lines().into_iter().filter(|line| pattern.is_match(line)).collect::<Vec<_>>();
            (reader, lines, read)
        });
        let Ok((reader, lines, read)) = read.await else { return true };
        self.reader = Some(reader);
        self.found.extend(lines);
        match read {
            Ok(bytes) => bytes < CHUNK_BYTES,
            Err(error) => {
                tracing::debug!(path = %self.path.display(), %error, "a log can't be read");
                true
            }
        }
    }
}

impl Watch for Log {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                if let Some(line) = self.found.pop_front() {
                    return Ok(out([("path", text(self.path.display().to_string())), ("line", text(line))]));
                }
                if self.look().await && self.found.is_empty() {
                    self.looks.due().await;
                }
            }
        }
        .boxed_local()
    }
}

/// Where it has read to.
#[derive(Debug, Default)]
struct Reader {
    file: Option<File>,
    /// A first look was made: a file that comes later is read from its beginning.
    begun: bool,
    /// What was read of a line that has not ended.
    open: Vec<u8>,
    whole: Vec<String>,
    /// The line that is being read is longer than is kept; the rest of it goes.
    skips: bool,
}

impl Reader {
    /// Reads a chunk; the number of its bytes.
    fn read(&mut self, path: &Path) -> io::Result<usize> {
        let begun = std::mem::replace(&mut self.begun, true);
        if self.file.is_none() {
            let mut file = File::open(path)?;
            if !begun {
                file.seek(SeekFrom::End(0))?;
            }
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let mut chunk = vec![0; CHUNK_BYTES];
        let bytes = file.read(&mut chunk)?;
        chunk.truncate(bytes);
        if bytes == 0 {
            self.follow(path)?;
        }
        self.take(&chunk);
        Ok(bytes)
    }

    /// At the end: the file may have been cut, or another one may stand in its place.
    fn follow(&mut self, path: &Path) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let (mine, at) = (file.metadata()?, file.stream_position()?);
        if mine.len() < at {
            file.seek(SeekFrom::Start(0))?;
            self.open.clear();
        }
        match std::fs::metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (mine.dev(), mine.ino()) => {}
            Ok(_) => {
                // Its last line ends with it.
                self.take(b"\n");
                self.file = Some(File::open(path)?);
            }
            Err(_) => {} // between the old one and the new one
        }
        Ok(())
    }

    fn take(&mut self, chunk: &[u8]) {
        for byte in chunk {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.open);
                    self.skips = false;
                    if !line.is_empty() {
                        self.whole.push(String::from_utf8_lossy(&line).into_owned());
                    }
                }
                _ if self.skips => {}
                byte => {
                    self.open.push(*byte);
                    self.skips = self.open.len() >= EVENT_VALUE_BYTES_MAX;
                }
            }
        }
    }

    fn lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.whole)
    }
}
