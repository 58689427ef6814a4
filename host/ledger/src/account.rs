//! Budgets, and the accounts that count against them.

use crate::{Money, Window};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$case_doc])* #[serde(rename = $text)] $case,)* }

        impl $name {
            pub const ALL: [Self; [$(Self::$case),*].len()] = [$(Self::$case),*];

            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$case => $text,)* }
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($text => Ok(Self::$case),)*
                    _ => Err(UnknownWord { word: text.chars().take(80).collect(), expected: concat!($("`", $text, "` "),*) }),
                }
            }
        }
    )*};
}

/// Not one of the words that are expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is none of {expected}")]
pub struct UnknownWord {
    word: String,
    expected: &'static str,
}

words! {
    /// Whose calls a budget counts.
    ScopeKind {
        Tenant = "tenant",
        Key = "key",
        Agent = "agent",
        Session = "session",
        /// A capability token with its descendants.
        Token = "token",
    }
    /// How long a budget counts before it begins anew.
    Period {
        /// For ever.
        None = "none",
        Day = "day",
        Month = "month",
    }
}

impl Period {
    /// The window that holds this time, in UTC.
    #[must_use]
    pub fn window(self, at_ms: i64) -> Window {
        match self {
            Self::None => Window::ENDLESS,
            Self::Day => Window::day(at_ms),
            Self::Month => Window::month(at_ms),
        }
    }
}

/// Whose calls: the whole tenant's, those of one key, agent, session or token, or of each of them for itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BudgetScope {
    kind: ScopeKind,
    /// Empty for the tenant, `*` for each.
    id: Arc<str>,
}

impl BudgetScope {
    /// What stands for each key, agent or session that has no budget of its own for the same period.
    pub const EACH: &'static str = "*";

    #[must_use]
    pub fn tenant() -> Self {
        Self {
            kind: ScopeKind::Tenant,
            id: "".into(),
        }
    }

    /// None for an id that nothing can have: an empty one, one of more than 256 bytes or with a NUL; and for one of the tenant, which has none.
    #[must_use]
    pub fn new(kind: ScopeKind, id: impl Into<Arc<str>>) -> Option<Self> {
        let id = id.into();
        let valid = match kind {
            ScopeKind::Tenant => id.is_empty(),
            _ => (1..=256).contains(&id.len()) && !id.contains('\0'),
        };
        valid.then_some(Self { kind, id })
    }

    /// What stands for each of its kind; there is only one tenant.
    pub(crate) fn each(&self) -> Option<Self> {
        Self::new(self.kind, Self::EACH)
    }

    #[must_use]
    pub fn kind(&self) -> ScopeKind {
        self.kind
    }

    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }
}

/// `tenant`, `key key_01`.
impl fmt::Display for BudgetScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if !self.id.is_empty() {
            write!(f, " {}", self.id)?;
        }
        Ok(())
    }
}

/// What may be spent in each window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub scope: BudgetScope,
    pub period: Period,
    pub limit: Money,
}

/// What counts against one budget: what was spent in the current window, and what calls under way may still spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    pub window_ms: i64,
    pub reserved: Money,
    pub settled: Money,
}

impl Account {
    /// One that nothing was ever charged to.
    pub const NEW: Self = Self {
        window_ms: -1,
        reserved: Money::ZERO,
        settled: Money::ZERO,
    };

    /// As it stands at a time: begun anew if a later window has begun. A clock that jumped back finds the window it left, so that what
    /// was spent stays spent.
    #[must_use]
    pub fn at(self, period: Period, at_ms: i64) -> Self {
        let window_ms = period.window(at_ms).start_ms;
        if window_ms > self.window_ms {
            Self {
                window_ms,
                ..Self::NEW
            }
        } else {
            self
        }
    }

    #[must_use]
    pub fn left(&self, limit: Money) -> Money {
        limit
            .saturating_sub(self.settled)
            .saturating_sub(self.reserved)
    }

    /// When its window ends. None: never.
    #[must_use]
    pub fn renews_ms(&self, period: Period) -> Option<i64> {
        period.window(self.window_ms).renews_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_what_can_be() {
        for kind in [
            ScopeKind::Key,
            ScopeKind::Agent,
            ScopeKind::Session,
            ScopeKind::Token,
        ] {
            for (id, valid) in [
                ("a", true),
                ("*", true),
                ("", false),
                ("a\0", false),
                (&"x".repeat(256), true),
                (&"x".repeat(257), false),
            ] {
                assert_eq!(BudgetScope::new(kind, id).is_some(), valid, "{kind:?} {id}");
            }
        }
        assert_eq!(BudgetScope::new(ScopeKind::Tenant, "acme"), None);
        assert_eq!(
            BudgetScope::new(ScopeKind::Tenant, "").unwrap(),
            BudgetScope::tenant()
        );
    }

    #[test]
    fn words_are_the_same_both_ways() {
        for period in Period::ALL {
            assert_eq!(period.as_str().parse::<Period>().unwrap(), period);
        }
        for kind in ScopeKind::ALL {
            assert_eq!(kind.as_str().parse::<ScopeKind>().unwrap(), kind);
        }
        for bad in ["", "Day", "week", "day "] {
            assert!(bad.parse::<Period>().is_err() && bad.parse::<ScopeKind>().is_err());
        }
    }

    #[test]
    fn an_account_begins_anew_with_a_later_window_and_never_with_an_earlier() {
        let day = 24 * 3600 * 1000;
        let spent = Account {
            window_ms: 5 * day,
            settled: Money::from_nanos(7).unwrap(),
            reserved: Money::from_nanos(3).unwrap(),
        };
        for (at, same) in [
            (5 * day, true),
            (6 * day - 1, true),
            (0, true),
            (i64::MIN, true),
            (6 * day, false),
            (i64::MAX, false),
        ] {
            assert_eq!(spent.at(Period::Day, at) == spent, same, "{at}");
        }
        assert_eq!(spent.at(Period::None, i64::MAX), spent);
        assert_eq!(Account::NEW.at(Period::None, 9).window_ms, 0);
        assert_eq!(spent.left(Money::from_nanos(11).unwrap()).nanos(), 1);
        assert_eq!(spent.left(Money::ZERO), Money::ZERO);
        assert_eq!(spent.renews_ms(Period::Day), Some(6 * day));
    }
}
