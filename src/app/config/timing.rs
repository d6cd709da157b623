//! Timeouts, and what must hold between them.

use super::layers::Layers;
use crate::app::failure::Failure;
use crate::engine::effect::Knobs;
use crate::model::limits::KEEPALIVE_MOST;
use std::time::Duration;

/// The defaults with what was set.
pub(super) fn knobs(layers: &Layers) -> Result<Knobs, Failure> {
    let usual = Knobs::default();
    let time = |name: &str, usual: Duration| Ok::<_, Failure>(layers.seconds(name)?.unwrap_or(usual));
    let knobs = Knobs {
        heartbeat: time("timing.heartbeat", usual.heartbeat)?,
        away_after: time("timing.away_after", usual.away_after)?,
        gone_after: time("timing.gone_after", usual.gone_after)?,
        keepalive: time("timing.keepalive", usual.keepalive)?,
        backoff_first: time("timing.backoff_first", usual.backoff_first)?,
        backoff_most: time("timing.backoff_most", usual.backoff_most)?,
        ..usual
    };
    let ordered = [
        (knobs.heartbeat < knobs.away_after, "timing.away_after", "away_after must be longer than heartbeat"),
        (
            knobs.away_after < knobs.gone_after,
            "timing.gone_after",
            "gone_after must be longer than away_after",
        ),
        (knobs.keepalive <= KEEPALIVE_MOST, "timing.keepalive", "keepalive must be at most 25 seconds"),
        (
            knobs.backoff_first <= knobs.backoff_most,
            "timing.backoff_most",
            "backoff_most must be at least backoff_first",
        ),
    ];
    for (holds, name, rule) in ordered {
        if !holds {
            let hint = "the defaults are 30, 90, 300, 15, 1 and 30 seconds: leave the others as they are, or set them too";
            let raw = layers.raw(name);
            return Err(
                raw.map_or_else(|| Failure::new("bad_config", rule, hint), |raw| raw.wrong(rule, hint))
            );
        }
    }
    Ok(knobs)
}
