//! What can be wrong with an invite, in words for whoever typed it: which group, and what to try.

/// What is wrong with an invite. Groups are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Nothing there.
    #[error("the invite is empty")]
    Empty,
    /// No invite is that long.
    #[error("this text is too long to be an invite")]
    TooLong,
    /// Nothing fits, not even the beginning.
    #[error("this is not an invite, or its beginning is missing (group 1, `{0}`, does not fit)")]
    NotAnInvite(String),
    /// Made by a later program.
    #[error("this invite has format {0}, and this lanrage only knows format 1")]
    Version(u8),
    /// A character that no invite has.
    #[error("group {group}, `{shown}`, is mistyped: invites never contain `{strange}`")]
    Strange {
        /// Which group.
        group: usize,
        /// As typed.
        shown: String,
        /// The character.
        strange: char,
    },
    /// Groups that do not fit their check characters.
    #[error("{}", mistyped(.0))]
    Mistyped(Vec<(usize, String)>),
    /// A group of the wrong length.
    #[error("group {group}, `{shown}`, is mistyped: it has {len} characters instead of 5")]
    Length {
        /// Which group.
        group: usize,
        /// As typed.
        shown: String,
        /// Its length.
        len: usize,
    },
    /// A character is missing or too many, in a text without separators.
    #[error("group {group}, `{shown}`, is mistyped: a character is missing or too many there")]
    Shifted {
        /// Which group.
        group: usize,
        /// As read.
        shown: String,
    },
    /// Two groups changed places.
    #[error("groups {a} and {b} are swapped")]
    Swapped {
        /// The first.
        a: usize,
        /// The second.
        b: usize,
    },
    /// The end is missing.
    #[error("the invite stops after group {after} of {of}")]
    Stops {
        /// The last whole group.
        after: usize,
        /// How many there should be.
        of: usize,
    },
    /// Something in the middle is missing.
    #[error("{} missing: the invite has {of} groups", span(*at, *n))]
    Missing {
        /// The first missing group.
        at: usize,
        /// How many are missing.
        n: usize,
        /// How many there should be.
        of: usize,
    },
    /// More groups than announced.
    #[error("{} too many: the invite has only {of} groups", span(*at, *n))]
    Extra {
        /// The first that does not belong here.
        at: usize,
        /// How many.
        n: usize,
        /// How many there should be.
        of: usize,
    },
    /// Every group is right, the whole is not.
    #[error("the invite is mistyped: each group looks right, but not all of them together")]
    Checksum,
    /// Typed right, but it makes no sense.
    #[error("the invite is complete but says nothing this lanrage understands")]
    Meaning,
}

impl InviteError {
    /// The groups that are named, counted from 1.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        match self {
            Self::Strange { group, .. } | Self::Length { group, .. } | Self::Shifted { group, .. } => {
                vec![*group]
            }
            Self::Mistyped(groups) => groups.iter().map(|(n, _)| *n).collect(),
            Self::Swapped { a, b } => vec![*a, *b],
            Self::Stops { after, .. } => vec![*after],
            Self::Missing { at, n, .. } | Self::Extra { at, n, .. } => (*at..at + n).collect(),
            Self::NotAnInvite(_) => vec![1],
            Self::Empty | Self::TooLong | Self::Version(_) | Self::Checksum | Self::Meaning => Vec::new(),
        }
    }

    /// What to try.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Version(_) => "install the newest lanrage on this computer",
            Self::Meaning => "ask for a new invite: its host can print one with `lanrage invite`",
            Self::Stops { .. } | Self::Missing { .. } | Self::Extra { .. } | Self::Checksum => {
                "copy the whole invite again; its host can print it with `lanrage invite`"
            }
            Self::Empty | Self::TooLong | Self::NotAnInvite(_) => {
                "paste the text or the lanrage://join/… link that the host's `lanrage invite` prints"
            }
            Self::Strange { .. }
            | Self::Mistyped(_)
            | Self::Length { .. }
            | Self::Shifted { .. }
            | Self::Swapped { .. } => "compare this place with the original, or paste instead of typing",
        }
    }
}

fn mistyped(groups: &[(usize, String)]) -> String {
    match groups {
        [(n, shown)] => format!("group {n}, `{shown}`, is mistyped"),
        many => {
            let named: Vec<_> = many.iter().map(|(n, shown)| format!("{n} (`{shown}`)")).collect();
            format!("groups {} are mistyped", named.join(", "))
        }
    }
}

fn span(at: usize, n: usize) -> String {
    if n == 1 { format!("group {at} is") } else { format!("groups {at} to {} are", at + n - 1) }
}
