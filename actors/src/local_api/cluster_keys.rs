//! The cluster keys: which are taken, what stands on them, and that the file with them has changed.

use phalanx_messages::admin::{AdminAnswer, KeyStatus};

use super::answer::{Asked, EXIT_CONFIGURATION, Refusal};
use crate::interconnect::{ClusterKeys, GetKeysInUse, UseKeys};

impl Asked {
    pub(super) async fn keys(self) -> Result<AdminAnswer, Refusal> {
        let in_use = self.edges.keys_in_use.send(GetKeysInUse).await.map_err(Refusal::ending)?;
        let accepted: Vec<String> = in_use.accepted.iter().map(ToString::to_string).collect();
        let link = |(node, key): (&phalanx_messages::NodeId, &crate::interconnect::Fingerprint)| {
            (self.configuration.name_of(*node), key.to_string())
        };
        Ok(AdminAnswer::Keys(KeyStatus {
            node: self.configuration.name_of(self.own),
            spoken: accepted.first().cloned().unwrap_or_default(),
            accepted,
            links: in_use.links.iter().map(link).collect(),
        }))
    }

    /// A file that cannot be used changes nothing.
    pub(super) async fn reload_keys(self) -> Result<AdminAnswer, Refusal> {
        let refused = |text: String| Refusal(EXIT_CONFIGURATION, text);
        let path =
            self.key_file.as_ref().ok_or_else(|| refused("this node was given its key by its program".to_owned()))?;
        let keys = ClusterKeys::load(path).map_err(|error| refused(error.to_string()))?;
        tracing::info!(by = self.by, "the key file is read again");
        self.edges.use_keys.send(UseKeys(keys)).await.map_err(Refusal::ending)?;
        self.keys().await
    }
}
