//! `timer`: occurs at the end of each interval.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use phalanx_messages::event::Parameters;

use super::{Input, Looks, NoWatch, Watch, number, out};

pub(super) struct Timer {
    looks: Looks,
    count: i64,
}

impl Timer {
    pub fn new(input: Input<'_>) -> Result<Self, NoWatch> {
        Ok(Self { looks: Looks::every(input.interval()?), count: 0 })
    }
}

impl Watch for Timer {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Parameters, NoWatch>> {
        async move {
            if self.count == 0 {
                self.looks.due().await; // the first interval begins now
            }
            self.looks.due().await;
            self.count += 1;
            Ok(out([("count", number(self.count))]))
        }
        .boxed_local()
    }
}
