//! `phalanx key ...` as it can be said.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `phalanx key`: a key is changed in three steps, each on every node before the next.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a new cluster key.
    #[command(after_help = "Example:\n  phalanx key new --out new.key    # then copy it to every host, mode 0600")]
    New {
        /// The file; never one that exists.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Step 1, on every node: accept another key beside the one in use.
    #[command(after_help = "Example:\n  phalanx key add new.key --config /etc/phalanx/n0.toml")]
    Add {
        /// File with the other key.
        key: PathBuf,
        /// Which node.
        #[command(flatten)]
        node: KeyNode,
    },
    /// Step 2, on every node: use the newest key. Links that this node dials are made anew; nothing else happens.
    #[command(after_help = "Example:\n  phalanx key use --config /etc/phalanx/n0.toml")]
    Use {
        /// Which node.
        #[command(flatten)]
        node: KeyNode,
    },
    /// Step 3, on every node: forget the old key. Refused while a link of this node stands on it.
    #[command(after_help = "Example:\n  phalanx key drop --config /etc/phalanx/n0.toml")]
    Drop {
        /// Which node.
        #[command(flatten)]
        node: KeyNode,
        /// Close such links.
        #[arg(long)]
        force: bool,
    },
    /// Show which keys a node takes, by their fingerprints, and which key each of its links stands on.
    #[command(after_help = "Example:\n  phalanx key status --node n1")]
    Status,
}

/// The node of a key file.
#[derive(Debug, Clone, Args)]
pub struct KeyNode {
    /// The file of the node on this host: it names the key file and the socket.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
