//! The two secrets of a node on the interconnect: the cluster key, which all nodes share, and its own static key pair.
//!
//! Both live in files that only their owner can read; a file that others can read is refused. Secrets are never shown:
//! `Debug` leaves them out.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use phalanx_messages::configuration::PublicKey;
use rand::TryRngCore;
use rand::rngs::OsRng;
use snow::params::DHChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::Dh;

/// Bytes of every key.
const KEY_BYTES: usize = 32;
/// A key file is 64 hexadecimal digits a line and white space; whatever is longer is not a key file.
const FILE_BYTES_MAX: u64 = 4096;

/// Why a key could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be used.
    #[error("failed to use key file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Others could read the secret.
    #[error("key file {} has mode {mode:04o}; it must not be readable by group or others (chmod 600)", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key.
    #[error("key file {} must hold 64 hexadecimal digits", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("failed to make a random key")]
    Random(#[source] io::Error),
}

/// Known to every node of a cluster and to nobody else; who does not know it cannot say anything on the interconnect.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey(pub [u8; KEY_BYTES]);

impl ClusterKey {
    /// A new key.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Exposed`], [`KeyError::Malformed`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        load(path).map(Self)
    }

    /// Writes a new key file with mode 0600.
    ///
    /// # Errors
    /// [`KeyError::File`], also if it exists.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        save(path, &self.0)
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// A node's own X25519 key. The public half stands in the configuration area from the node's first join on.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticKeyPair {
    /// Never leaves the host.
    pub private: [u8; KEY_BYTES],
    /// Known to the cluster.
    pub public: PublicKey,
}

impl StaticKeyPair {
    /// A new key pair.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        random().map(Self::from_private)
    }

    /// The pair of that private key.
    ///
    /// # Panics
    /// Never: the library is built with X25519.
    #[must_use]
    pub fn from_private(private: [u8; KEY_BYTES]) -> Self {
        let mut curve: Box<dyn Dh> =
            DefaultResolver.resolve_dh(&DHChoice::Curve25519).expect("snow is built with X25519");
        curve.set(&private);
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(curve.pubkey());
        Self { private, public }
    }

    /// Reads the file with the private key.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Exposed`], [`KeyError::Malformed`].
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        load(path).map(Self::from_private)
    }

    /// Writes the private key to a new file with mode 0600.
    ///
    /// # Errors
    /// [`KeyError::File`], also if it exists.
    pub fn save(&self, path: &Path) -> Result<(), KeyError> {
        save(path, &self.private)
    }

    /// Reads the key file, or makes a new pair and writes it if there is no file yet.
    ///
    /// # Errors
    /// As [`StaticKeyPair::load`] and [`StaticKeyPair::save`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let pair = Self::generate()?;
                pair.save(path)?;
                Ok(pair)
            }
            other => other,
        }
    }
}

impl fmt::Debug for StaticKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticKeyPair").field("public", &hex(&self.public)).finish_non_exhaustive()
    }
}

fn random() -> Result<[u8; KEY_BYTES], KeyError> {
    let mut key = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut key).map_err(|error| KeyError::Random(io::Error::other(error)))?;
    Ok(key)
}

fn load(path: &Path) -> Result<[u8; KEY_BYTES], KeyError> {
    unhex(read(path)?.trim_ascii()).ok_or_else(|| KeyError::Malformed { path: path.to_owned() })
}

/// The text of a key file that only its owner can read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    // The open file is asked, not the path, so that nobody can swap it in between.
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok(text)
}

fn save(path: &Path, key: &[u8; KEY_BYTES]) -> Result<(), KeyError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(format!("{}\n", hex(key)).as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| {
        if source.kind() != io::ErrorKind::AlreadyExists {
            std::fs::remove_file(path).ok(); // half a key would be taken for a whole one at the next start
        }
        KeyError::File { path: path.to_owned(), source }
    })
}

/// Writes a key file beside its place, then moves it there.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), KeyError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        std::fs::remove_file(&beside).ok(); // left by an attempt that was killed
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(|source| KeyError::File { path: path.to_owned(), source })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &[u8]) -> Option<[u8; KEY_BYTES]> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = [0; KEY_BYTES];
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_survives_its_file_and_a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let pair = StaticKeyPair::load_or_create(&path).unwrap();
        assert_eq!(StaticKeyPair::load_or_create(&path).unwrap(), pair);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(pair.save(&path), Err(KeyError::File { .. })), "an existing key is never overwritten");

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let text = StaticKeyPair::load(&path).unwrap_err().to_string();
        assert!(text.contains("has mode 0640"), "{text}");
    }

    #[test]
    fn what_is_not_64_hexadecimal_digits_is_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let key = ClusterKey::generate().unwrap();
        let digits = hex(&key.0);
        for (name, text) in [("short", &digits[1..]), ("odd", &format!("{}zz", &digits[2..])), ("empty", "")] {
            let path = directory.path().join(name);
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            std::fs::write(&path, text).unwrap();
            assert!(matches!(ClusterKey::load(&path), Err(KeyError::Malformed { .. })), "{name}");
        }
        let path = directory.path().join("cluster.key");
        key.save(&path).unwrap();
        assert_eq!(ClusterKey::load(&path).unwrap(), key);
    }

    #[test]
    fn the_public_half_is_that_of_rfc_7748_and_secrets_are_not_shown() {
        let alice = unhex(b"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap();
        let pair = StaticKeyPair::from_private(alice);
        assert_eq!(hex(&pair.public), "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert!(!format!("{pair:?} {:?}", ClusterKey(alice)).contains(&hex(&alice)[..8]));
    }
}
