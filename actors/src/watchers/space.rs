//! `space`: a file system is fuller than it should be. Told once; again only after there was room meanwhile.

use std::io;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;

use super::{Input, Looks, NoWatch, Watch, number, out, text};

pub(super) struct Space {
    path: String,
    percent: Option<u64>,
    free_bytes: Option<u64>,
    looks: Looks,
    told: bool,
}

/// How full a file system is: as `df` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fill {
    percent: u64,
    free_bytes: u64,
}

impl Fill {
    fn of(blocks: u64, free: u64, available: u64, block_bytes: u64) -> Self {
        let used = blocks.saturating_sub(free);
        let usable = (used + available).max(1);
        let percent = (u128::from(used) * 100).div_ceil(u128::from(usable));
        Self { percent: u64::try_from(percent).unwrap_or(100), free_bytes: available.saturating_mul(block_bytes) }
    }
}

impl Space {
    pub fn new(input: Input<'_>) -> Result<Self, NoWatch> {
        let positive = |name| input.number(name).and_then(|number| u64::try_from(number).ok());
        Ok(Self {
            path: input.required_text("path")?,
            percent: positive("percent"),
            free_bytes: positive("free_bytes"),
            looks: Looks::every(input.interval()?),
            told: false,
        })
    }

    /// A file system that hangs holds up a thread for blocking work, and nothing else.
    async fn look(&self) -> io::Result<Fill> {
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(path)).await;
        let fill = looked.map_err(io::Error::other)??;
        Ok(Fill::of(fill.f_blocks, fill.f_bfree, fill.f_bavail, fill.f_frsize))
    }

    fn is_short(&self, fill: Fill) -> bool {
        self.percent.is_some_and(|most| fill.percent >= most)
            || self.free_bytes.is_some_and(|least| fill.free_bytes < least)
    }
}

impl Watch for Space {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            loop {
                self.looks.due().await;
                match self.look().await {
                    Ok(fill) => {
                        let short = self.is_short(fill);
                        if short && !std::mem::replace(&mut self.told, short) {
                            let Fill { percent, free_bytes } = fill;
                            let path = text(&self.path);
                            return Ok(out([
                                ("path", path),
                                ("percent", number(percent)),
                                ("free_bytes", number(free_bytes)),
                            ]));
                        }
                        self.told = short;
                    }
                    Err(error) => tracing::debug!(path = self.path, %error, "a file system can't be looked at"),
                }
            }
        }
        .boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_as_full_as_df_says() {
        assert_eq!(
            Fill::of(1_000, 300, 200, 4_096),
            Fill { percent: 78, free_bytes: 819_200 },
            "100 blocks are root's"
        );
        assert_eq!(Fill::of(0, 0, 0, 4_096), Fill { percent: 0, free_bytes: 0 });
        assert_eq!(Fill::of(10, 0, 0, 1), Fill { percent: 100, free_bytes: 0 });
    }
}
