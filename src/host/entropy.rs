//! The one place that asks the system for randomness: a seed at the start. Everything else draws from `model::dice`.

use crate::model::dice::Seed;
use crate::model::status::Trouble;

/// A fresh seed.
///
/// # Errors
/// `no_entropy` when the system has none to give; nothing secret can be made then.
pub fn seed() -> Result<Seed, Trouble> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| {
        Trouble::new(
            "no_entropy",
            format!("the system gave no random bytes: {e}"),
            "keys cannot be made without them; on a freshly started machine try again in a minute",
        )
    })?;
    Ok(Seed(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_seeds_differ() {
        assert!(seed().unwrap() != seed().unwrap());
    }
}
