//! Requests per minute and principal, so that one key in a loop does not use up a tenant's share.
//!
//! One small limiter per principal (GCRA, `governor`) in a bounded cache: a limiter nobody used for longer than it takes to refill is
//! full again, so forgetting it changes nothing. Keyed limiters of `governor` itself would grow until somebody sweeps them.

use ambit_types::{CallContext, Error, ErrorKind, TenantId};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::{collections::HashSet, num::NonZeroU32, sync::Arc, time::Duration};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// What each principal may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateConfig {
    /// None: no limit for anybody.
    pub per_minute: Option<NonZeroU32>,
    /// Requests that may come at once after a pause.
    pub burst: NonZeroU32,
    /// `tenant/principal` of those without a limit.
    pub unlimited: HashSet<String>,
}

impl Default for RateConfig {
    /// Ten a second on average: more than an agent's user needs, less than a loop makes.
    fn default() -> Self {
        Self {
            per_minute: NonZeroU32::new(600),
            burst: NonZeroU32::new(60).unwrap_or(NonZeroU32::MIN),
            unlimited: HashSet::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Rates {
    config: RateConfig,
    limiters: moka::sync::Cache<(TenantId, String), Arc<Limiter>>,
}

/// Where a principal stands after this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    limit: u32,
    remaining: u32,
}

impl Rates {
    pub(crate) fn new(config: RateConfig) -> Self {
        let refill = config.per_minute.map_or(60, |rate| {
            u64::from(config.burst.get()) * 60 / u64::from(rate.get()) + 60
        });
        let limiters = moka::sync::Cache::builder()
            .max_capacity(100_000)
            .time_to_idle(Duration::from_secs(refill))
            .build();
        Self { config, limiters }
    }

    /// Counts a request. None: this principal has no limit.
    ///
    /// # Errors
    /// 429 with the time until the next request would pass.
    pub(crate) fn count(&self, ctx: &CallContext) -> Result<Option<Standing>, Error> {
        let Some(per_minute) = self.config.per_minute else {
            return Ok(None);
        };
        let unlimited = &self.config.unlimited;
        if !unlimited.is_empty()
            && unlimited.contains(&format!("{}/{}", ctx.tenant_slug, ctx.principal.id))
        {
            return Ok(None);
        }
        let quota = Quota::per_minute(per_minute).allow_burst(self.config.burst);
        let limiter = self
            .limiters
            .get_with((ctx.tenant, ctx.principal.id.clone()), || {
                Arc::new(RateLimiter::direct(quota).with_middleware())
            });
        match limiter.check() {
            Ok(state) => Ok(Some(Standing {
                limit: per_minute.get(),
                remaining: state.remaining_burst_capacity(),
            })),
            Err(not_until) => {
                let retry_after = not_until.wait_time_from(DefaultClock::default().now());
                Err(Error::new(
                    ErrorKind::RateLimited { retry_after },
                    "too many requests for this key",
                ))
            }
        }
    }
}

impl Standing {
    /// OpenAI's header names, which its clients know.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(
            HeaderName::from_static("x-ratelimit-limit-requests"),
            HeaderValue::from(self.limit),
        );
        headers.insert(
            HeaderName::from_static("x-ratelimit-remaining-requests"),
            HeaderValue::from(self.remaining),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::context;

    fn rates(per_minute: u32, burst: u32) -> Rates {
        let config = RateConfig {
            per_minute: NonZeroU32::new(per_minute),
            burst: NonZeroU32::new(burst).unwrap(),
            unlimited: HashSet::from(["acme/demo".to_owned()]),
        };
        Rates::new(config)
    }

    #[test]
    fn refuses_past_the_burst_and_says_when_to_come_back() {
        let (rates, ctx) = (rates(60, 2), context("acme", "alice"));
        assert_eq!(rates.count(&ctx).unwrap().unwrap().remaining, 1);
        assert_eq!(rates.count(&ctx).unwrap().unwrap().remaining, 0);
        let error = rates.count(&ctx).unwrap_err();
        assert_eq!((error.status(), error.retry_after()), (429, Some(1)));
    }

    #[test]
    fn principals_and_tenants_do_not_share() {
        let rates = rates(60, 1);
        for ctx in [
            context("acme", "alice"),
            context("acme", "bob"),
            context("globex", "alice"),
        ] {
            assert!(rates.count(&ctx).is_ok());
        }
    }

    #[test]
    fn some_have_no_limit() {
        let demo = context("acme", "demo");
        let rates_on = rates(1, 1);
        assert!((0..100).all(|_| rates_on.count(&demo).unwrap().is_none()));
        let off = rates(0, 1);
        assert!((0..100).all(|_| off.count(&context("acme", "alice")).unwrap().is_none()));
    }
}
