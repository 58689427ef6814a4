//! How strictly tokens are taken.

use serde::{Deserialize, Serialize};

use super::TokenError;
use crate::kind::words;

words! {
    /// How strictly the use of tokens is checked. What is not enforced is said in every answer.
    ///
    /// The door knows no mode: a text that does not verify is nobody's token. A mode is about what becomes of a genuine token of the
    /// tenant before each operation.
    #[derive(Default)]
    Mode {
        /// What a token does not allow is refused.
        #[default]
        Enforced = "enforced",
        /// What would be refused is done, and told.
        Warn = "warn",
        /// No token narrows anything.
        Disabled = "disabled",
    }
}

/// What to do with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Proceed,
    /// Do it, and say in the answer's header, the log and a metric that tokens are not enforced.
    ProceedLoudly {
        mode: Mode,
        /// What would have been refused were the mode `enforced`. None where nothing is known to be wrong.
        overlooked: Option<TokenError>,
    },
    Refuse(TokenError),
}

impl Mode {
    /// What follows from the outcome of [`Token::check`](super::Token::check). A token of another tenant, or one that is none, is
    /// refused in every mode: no mode lets anybody be somebody else.
    #[must_use]
    pub fn decide(self, check: Result<(), TokenError>) -> Decision {
        match (self, check) {
            (_, Err(error)) if !error.is_about_use() => Decision::Refuse(error),
            (Self::Enforced, Err(error)) => Decision::Refuse(error),
            (Self::Enforced, Ok(())) => Decision::Proceed,
            (Self::Warn, check) => Decision::ProceedLoudly {
                mode: self,
                overlooked: check.err(),
            },
            (Self::Disabled, _) => Decision::ProceedLoudly {
                mode: self,
                overlooked: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Proceed, ProceedLoudly, Refuse};
    use TokenError::*;

    const USE: [TokenError; 5] = [NotYet, Expired, Session, Agent, Revoked];
    const IDENTITY: [TokenError; 6] = [
        TooLong,
        Malformed,
        UnknownKey,
        Signature,
        Claim("aud"),
        Tenant,
    ];

    #[test]
    fn whatever_is_not_enforced_is_loud() {
        let loud = |mode, overlooked| ProceedLoudly { mode, overlooked };
        assert_eq!(Mode::Enforced.decide(Ok(())), Proceed);
        assert_eq!(Mode::Warn.decide(Ok(())), loud(Mode::Warn, None));
        assert_eq!(Mode::Disabled.decide(Ok(())), loud(Mode::Disabled, None));
        for error in USE {
            assert_eq!(Mode::Enforced.decide(Err(error)), Refuse(error));
            let told = loud(Mode::Warn, Some(error));
            assert_eq!(Mode::Warn.decide(Err(error)), told);
            assert_eq!(
                Mode::Disabled.decide(Err(error)),
                loud(Mode::Disabled, None)
            );
        }
    }

    #[test]
    fn no_mode_lets_anybody_be_somebody_else() {
        for mode in Mode::ALL {
            for error in IDENTITY {
                assert_eq!(mode.decide(Err(error)), Refuse(error), "{mode}");
            }
        }
    }

    #[test]
    fn a_mode_is_its_word() {
        assert_eq!(Mode::default(), Mode::Enforced);
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(*mode));
            let json = serde_json::to_string(mode).unwrap();
            assert_eq!(json, format!("\"{mode}\""));
            assert_eq!(serde_json::from_str::<Mode>(&json).unwrap(), *mode);
        }
        assert_eq!(
            "Enforced".parse::<Mode>().unwrap_err(),
            "one of `enforced` `warn` `disabled`"
        );
    }
}
