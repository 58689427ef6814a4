//! Name servers that take their time.

use crate::support::*;
use ambit_egress::{Budget, Egress, EgressError, Network, Scope, Shares, Slot};
use ambit_policy::Limits;
use ambit_types::TenantId;
use futures::future::BoxFuture;
use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// A name server that never answers, for names that begin so; it takes a thread all the same.
struct Stuck {
    begun: AtomicUsize,
}

impl Network for Stuck {
    fn resolve(&self, host: String, slot: Slot) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _held = slot;
            if host.starts_with("stuck") {
                std::future::pending::<()>().await;
            }
            Err(io::ErrorKind::NotFound.into())
        })
    }
}

#[tokio::test]
async fn a_tenants_slow_names_take_few_threads() {
    let network = Arc::new(Stuck {
        begun: AtomicUsize::new(0),
    });
    let egress = Egress::with(network.clone(), Egress::public_roots().unwrap());
    let shares = Shares::new(32);
    let scope = |tenant| {
        let limits = Limits {
            connections: 32,
            ..Limits::default()
        };
        let deadline = Instant::now() + Duration::from_millis(300);
        let meter = Arc::new(Budget::new(1 << 20));
        Scope::new(
            origin("http://*.example"),
            &limits,
            deadline,
            shares.of(tenant),
            meter,
        )
    };
    let (hostile, other) = (TenantId::new(), TenantId::new());
    let slow = (0..32).map(async |n| {
        let uri = format!("http://stuck-{n}.example/");
        send(&egress, &scope(hostile), &uri).await.err()
    });
    let slow = futures::future::join_all(slow);
    let quick = async {
        let error = send(&egress, &scope(other), "http://a.example/")
            .await
            .err();
        (error, network.begun.load(Ordering::SeqCst))
    };
    let (slow, (quick, begun)) = futures::join!(slow, quick);
    assert_eq!(quick, Some(EgressError::Unreachable { blocked: false }));
    assert_eq!(begun, 8 + 1, "the other tenant's among them");
    assert!(
        slow.iter()
            .all(|error| matches!(error, Some(EgressError::Timeout(_)))),
        "{slow:?}"
    );
}
