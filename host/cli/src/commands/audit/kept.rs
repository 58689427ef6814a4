//! The anchors that are kept where the database's credentials do not reach.

use super::Verified;
use crate::config::named;
use ambit_anchor::{Folder, Place};
use ambit_anchor_s3::Bucket;
use ambit_audit::{Anchor, Verifier, follow};
use anyhow::{Context as _, anyhow, bail};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use std::path::Path;

/// Notes asked for at a time: a bucket is far away.
const AT_ONCE: usize = 32;

/// All notes of a place, in order.
pub(super) struct Kept {
    place: Box<dyn Place>,
    name: String,
    notes: Vec<String>,
}

impl Kept {
    /// A folder, or `s3://BUCKET/PREFIX`.
    pub(super) async fn read(place: &Path) -> anyhow::Result<Self> {
        let name = place.display().to_string();
        let mut kept = Self {
            place: match place.to_str().and_then(named) {
                Some(Ok(bucket)) => Box::new(Bucket::new(bucket).await),
                Some(Err(expected)) => bail!("{name}: expected {expected}"),
                None => {
                    // One that is not there would look like one without anchors.
                    std::fs::read_dir(place)
                        .with_context(|| format!("cannot read the anchors in {name}"))?;
                    Box::new(Folder::new(place))
                }
            },
            name,
            notes: Vec::new(),
        };
        kept.read_on().await?;
        Ok(kept)
    }

    /// What came since.
    pub(super) async fn read_on(&mut self) -> anyhow::Result<()> {
        let (place, name) = (&self.place, &self.name);
        let next = i64::try_from(self.notes.len())? + 1;
        let read = stream::iter(next..)
            .map(|number| async move {
                let read = place.get(number).await;
                read.with_context(|| format!("cannot read anchor {number} in {name}"))
            })
            .buffered(AT_ONCE)
            // There are no holes: the first that is missing is the end.
            .try_take_while(|note| future::ready(Ok(note.is_some())))
            .try_filter_map(|note| future::ready(Ok(note)));
        let new: Vec<String> = read.try_collect().await?;
        self.notes.extend(new);
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.notes.len() as u64
    }

    /// That the anchors are one chain, and that what was verified leads up to one of them; of a running server, to the newest. The number of
    /// the newest.
    pub(super) fn check(
        &self,
        key: &Verifier,
        reports: &[Verified],
        at_least: u64,
    ) -> anyhow::Result<u64> {
        let (place, notes) = (&self.name, &self.notes);
        let last = follow(notes.iter().map(String::as_str), key)
            .map_err(|fault| anyhow!("{fault} (in {place})"))?;
        let last = last.map_or(0, |last| last.number);
        for (tenant, report, _) in reports {
            if report.anchor < at_least {
                bail!(
                    "{tenant} leads up to anchor {}, and {place} had {at_least} before: the journal was put back to an older state",
                    report.anchor
                );
            }
        }
        for (_, report, note) in reports {
            let number = usize::try_from(report.anchor).unwrap_or_default();
            match number.checked_sub(1).and_then(|at| notes.get(at)) {
                Some(kept) if Anchor::name(kept) == Anchor::name(note) => {}
                Some(_) => bail!(
                    "anchor {number} is not the one in {place}: the journal was put back to an older state, or another installation anchors there"
                ),
                None => bail!(
                    "anchor {number} is not in {place}, which ends at {last}: the anchor store does not take anchors"
                ),
            }
        }
        Ok(last)
    }
}
