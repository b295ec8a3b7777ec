//! What every instance did, one JSON line each, in one file for all nodes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use phalanx_actors::clock::wall_now_ms;
use serde::{Deserialize, Serialize};

/// Name of the file in the state directory.
pub const JOURNAL: &str = "licences.journal";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Wall clock, milliseconds since the Unix epoch; for people.
    pub at_ms: u64,
    /// Node that wrote it.
    pub node: String,
    /// Registration it belongs to.
    pub generation: String,
    /// Process that wrote it.
    pub pid: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// An instance came up; written before it listens.
    Up {
        /// Another instance still lived: the cluster ran two at once.
        overlap: bool,
    },
    /// A licence was granted; written before it is told.
    Take {
        /// The licence.
        id: u64,
    },
    /// A licence came back.
    Return {
        /// The licence.
        id: u64,
    },
    /// Licences of a dead instance were taken back. `generation` is that instance's.
    Recovered {
        /// The dead node.
        victim: String,
        /// The recovery; a repeat carries the same.
        operation: String,
        /// What was taken back.
        licences: Vec<u64>,
    },
}

impl Entry {
    /// Something that happens now in this process.
    #[must_use]
    pub fn now(node: &str, generation: &str, event: Event) -> Self {
        let (node, generation) = (node.to_owned(), generation.to_owned());
        Self { at_ms: wall_now_ms(), node, generation, pid: std::process::id(), event }
    }

    /// This is what the recovery `operation` wrote.
    #[must_use]
    pub fn recovered_by(&self, operation: &str) -> bool {
        match &self.event {
            Event::Recovered { operation: done, .. } => done == operation,
            Event::Up { .. } | Event::Take { .. } | Event::Return { .. } => false,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens the journal in the directory `state`, and makes it if it is not there.
    ///
    /// # Errors
    /// If the file cannot be opened or mended.
    pub fn open(state: &Path) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(state.join(JOURNAL))?;
        // A writer that died in the middle of a line must not spoil the next one.
        let length = file.seek(SeekFrom::End(0))?;
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self { file })
    }

    /// Everything in it, in order. A line that a dying writer left unfinished is no entry.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut text)?;
        let lines = text.split(|byte| *byte == b'\n');
        Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Appends one line in one write.
    ///
    /// # Errors
    /// If the file cannot be written; then the entry does not count.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.flush()
    }
}
