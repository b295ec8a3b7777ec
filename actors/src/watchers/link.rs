//! `link`: a network interface is not up. Told once; again only after it was up meanwhile.

use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;

use super::{Input, Looks, NoWatch, Watch, out, text};

pub(super) struct Link {
    interface: String,
    directory: PathBuf,
    looks: Looks,
    told: bool,
}

impl Link {
    pub fn new(input: Input<'_>, root: impl Into<PathBuf>) -> Result<Self, NoWatch> {
        let interface = input.required_text("interface")?;
        if interface.contains('/') || interface.starts_with('.') {
            return Err(NoWatch(format!("`{interface}` is no name of an interface")));
        }
        let directory = root.into().join(&interface);
        Ok(Self { interface, directory, looks: Looks::every(input.interval()?), told: false })
    }

    /// What it is, if it is not up. The kernel answers from memory. Interfaces without a carrier of their own, such as `lo`, call
    /// themselves `unknown` when they are up.
    fn state(&self) -> Option<String> {
        let read = |name| std::fs::read_to_string(self.directory.join(name)).map(|text| text.trim().to_owned());
        let Ok(state) = read("operstate") else { return Some("missing".to_owned()) };
        let carrier = || read("carrier").is_ok_and(|carrier| carrier == "1");
        match state.as_str() {
            "up" => None,
            "unknown" if carrier() => None,
            _ => Some(state),
        }
    }
}

impl Watch for Link {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                self.looks.due().await;
                match self.state() {
                    None => self.told = false,
                    Some(state) if !std::mem::replace(&mut self.told, true) => {
                        return Ok(out([("interface", text(&self.interface)), ("state", text(state))]));
                    }
                    Some(_) => {}
                }
            }
        }
        .boxed_local()
    }
}
