//! The cluster keys that a node takes, so that a key can be changed without stopping the cluster.
//!
//! A key file holds one key a line. The first one is spoken: this node dials with it. Every one is accepted. A key is changed in three
//! steps, each on every node before the next: the new one is accepted too, then it is spoken, then the old one is dropped.
//!
//! Keys are shown as fingerprints only.

use std::fmt;
use std::path::Path;

use snow::params::HashChoice;
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::Hash;

use super::keys::{self, ClusterKey, KeyError};

/// Keys that a file may hold: the old one, and the new one.
pub const CLUSTER_KEYS_MAX: usize = 2;

/// Tells cluster keys apart without telling them: the first bytes of a hash, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(String);

impl Fingerprint {
    const BYTES: usize = 8;

    /// That of a key.
    ///
    /// # Panics
    /// Never: the library is built with SHA-256.
    #[must_use]
    pub fn of(key: &ClusterKey) -> Self {
        let mut hash: Box<dyn Hash> =
            DefaultResolver.resolve_hash(&HashChoice::SHA256).expect("snow is built with SHA-256");
        hash.reset();
        hash.input(b"phalanx cluster key");
        hash.input(&key.0);
        let mut sum = [0; 32];
        hash.result(&mut sum);
        Self(keys::hex(&sum[..Self::BYTES]))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// See the module. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKeys(Vec<ClusterKey>);

impl From<ClusterKey> for ClusterKeys {
    fn from(key: ClusterKey) -> Self {
        Self(vec![key])
    }
}

impl fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Fingerprint::of)).finish()
    }
}

impl ClusterKeys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyError::File`], [`KeyError::Exposed`]; [`KeyError::Malformed`] also if it holds none, or too many.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = keys::read(path)?;
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let found: Option<Vec<ClusterKey>> = lines.map(|line| keys::unhex(line).map(ClusterKey)).collect();
        let found = found.ok_or_else(malformed)?;
        let fits = (1..=CLUSTER_KEYS_MAX).contains(&found.len());
        if fits { Ok(Self(found)) } else { Err(malformed()) }
    }

    /// Writes a key file in place of what is there: whole, or not at all.
    ///
    /// # Errors
    /// [`KeyError::File`].
    pub fn replace(&self, path: &Path) -> Result<(), KeyError> {
        let text: String = self.0.iter().map(|key| keys::hex(&key.0) + "\n").collect();
        keys::replace(path, &text)
    }

    /// The key that this node dials with.
    #[must_use]
    pub fn spoken(&self) -> &ClusterKey {
        &self.0[0]
    }

    /// Every key that this node takes, the spoken one first.
    pub fn accepted(&self) -> impl Iterator<Item = &ClusterKey> {
        self.0.iter()
    }

    /// This node takes that key.
    #[must_use]
    pub fn accepts(&self, key: &ClusterKey) -> bool {
        self.0.contains(key)
    }

    /// The key of that attempt to dial: the spoken one first, then the others, since a peer may not know it yet.
    #[must_use]
    pub fn of_attempt(&self, attempt: u32) -> &ClusterKey {
        &self.0[attempt as usize % self.0.len()]
    }

    /// The same with one more that is accepted. Nothing if there is no place for it.
    #[must_use]
    pub fn with(&self, key: ClusterKey) -> Option<Self> {
        let mut keys = self.0.clone();
        if !self.accepts(&key) {
            keys.push(key);
        }
        (keys.len() <= CLUSTER_KEYS_MAX).then_some(Self(keys))
    }

    /// The same, and the newest is spoken.
    #[must_use]
    pub fn newest_spoken(&self) -> Self {
        Self(self.0.iter().rev().cloned().collect())
    }

    /// Nothing but the spoken one.
    #[must_use]
    pub fn spoken_alone(&self) -> Self {
        Self(vec![self.spoken().clone()])
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const OLD: ClusterKey = ClusterKey([1; 32]);
    const NEW: ClusterKey = ClusterKey([2; 32]);

    #[test]
    fn a_key_is_changed_in_three_steps_and_each_is_what_the_file_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        OLD.save(&path).unwrap();
        let old = ClusterKeys::load(&path).unwrap();
        assert_eq!(old, ClusterKeys::from(OLD));
        let both = old.with(NEW).unwrap();
        assert!(both.spoken() == &OLD && both.accepts(&NEW) && both.with(ClusterKey([3; 32])).is_none());
        assert_eq!(both.with(NEW), Some(both.clone()), "a second time changes nothing");
        let spoken = both.newest_spoken();
        assert!(spoken.spoken() == &NEW && spoken.accepts(&OLD));
        assert!([0, 1, 2].map(|attempt| spoken.of_attempt(attempt)) == [&NEW, &OLD, &NEW]);
        for keys in [both, spoken.clone(), spoken.spoken_alone()] {
            keys.replace(&path).unwrap();
            assert_eq!(ClusterKeys::load(&path).unwrap(), keys);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(ClusterKey::load(&path).unwrap(), NEW, "one key alone is a file as it always was");
    }

    #[test]
    fn no_key_and_three_keys_are_no_key_file_and_no_key_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        for count in [0, 3] {
            ClusterKeys(vec![OLD; count]).replace(&path).unwrap();
            assert!(matches!(ClusterKeys::load(&path), Err(KeyError::Malformed { .. })), "{count}");
        }
        let shown = format!("{:?}", ClusterKeys(vec![OLD, NEW]));
        assert!(!shown.contains("0101") && shown.contains(&Fingerprint::of(&NEW).to_string()), "{shown}");
        assert_ne!(Fingerprint::of(&OLD), Fingerprint::of(&NEW));
    }
}
