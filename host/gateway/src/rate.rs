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
    /// Until the whole burst is there again.
    reset: Duration,
    /// The request was one too many; the next one passes after this.
    refused: Option<Duration>,
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
    pub(crate) fn count(&self, ctx: &CallContext) -> Option<Standing> {
        let per_minute = self.config.per_minute?;
        let unlimited = &self.config.unlimited;
        if !unlimited.is_empty()
            && unlimited.contains(&format!("{}/{}", ctx.tenant_slug, ctx.principal.id))
        {
            return None;
        }
        let quota = Quota::per_minute(per_minute).allow_burst(self.config.burst);
        let limiter = self
            .limiters
            .get_with((ctx.tenant, ctx.principal.id.clone()), || {
                Arc::new(RateLimiter::direct(quota).with_middleware())
            });
        let (remaining, refused) = match limiter.check() {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                (0, Some(wait))
            }
        };
        let used = self.config.burst.get().saturating_sub(remaining);
        Some(Standing {
            limit: per_minute.get(),
            remaining,
            reset: quota.replenish_interval() * used,
            refused,
        })
    }
}

impl Standing {
    /// 429 with the time until the next request would pass, where this one does not.
    pub(crate) fn refusal(&self) -> Option<Error> {
        let retry_after = self.refused?;
        Some(Error::new(
            ErrorKind::RateLimited { retry_after },
            "too many requests for this key",
        ))
    }

    /// OpenAI's header names, which its clients know.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        if let Ok(reset) = HeaderValue::try_from(spoken(self.reset)) {
            headers.insert(HeaderName::from_static("x-ratelimit-reset-requests"), reset);
        }
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

/// A time as OpenAI writes it: `6m0s`, `1s`, `17ms`, rounded up.
fn spoken(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{}ms", time.as_micros().div_ceil(1000));
    }
    let seconds = time.as_millis().div_ceil(1000);
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
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
        for remaining in [1, 0] {
            let standing = rates.count(&ctx).unwrap();
            assert_eq!(standing.remaining, remaining);
            assert!(standing.refusal().is_none());
        }
        let standing = rates.count(&ctx).unwrap();
        let error = standing.refusal().unwrap();
        assert_eq!((error.status(), error.retry_after()), (429, Some(1)));

        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        let of = |what: &str| headers[format!("x-ratelimit-{what}-requests")].clone();
        assert_eq!(
            [of("limit"), of("remaining"), of("reset")],
            ["60", "0", "2s"]
        );
    }

    #[test]
    fn times_are_written_as_clients_know_them() {
        for (millis, expected) in [
            (0, "0ms"),
            (17, "17ms"),
            (1000, "1s"),
            (1001, "2s"),
            (59_999, "1m0s"),
            (360_000, "6m0s"),
        ] {
            assert_eq!(spoken(Duration::from_millis(millis)), expected);
        }
        assert_eq!(spoken(Duration::from_micros(1)), "1ms");
    }

    #[test]
    fn principals_and_tenants_do_not_share() {
        let rates = rates(60, 1);
        for ctx in [
            context("acme", "alice"),
            context("acme", "bob"),
            context("globex", "alice"),
        ] {
            assert!(rates.count(&ctx).unwrap().refusal().is_none());
        }
    }

    #[test]
    fn some_have_no_limit() {
        let demo = context("acme", "demo");
        let rates_on = rates(1, 1);
        assert!((0..100).all(|_| rates_on.count(&demo).is_none()));
        let off = rates(0, 1);
        assert!((0..100).all(|_| off.count(&context("acme", "alice")).is_none()));
    }
}
