//! What tools keep: read as written, by its tenant only, within its bounds.

use super::{on_both, tenant};
use crate::{KEY_CAP, StoreError, TENANT_CAP, VALUE_CAP};

fn why(result: Result<impl std::fmt::Debug, StoreError>) -> &'static str {
    match result {
        Err(StoreError::Invalid { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn entries_are_read_as_written_by_their_tenant_only() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        assert_eq!(acme.key_value("b/k").await.unwrap(), None);
        for value in [b"one".as_slice(), b"", &[0, 255, 0]] {
            acme.put_key_value("b/k", value).await.unwrap();
            assert_eq!(acme.key_value("b/k").await.unwrap().as_deref(), Some(value));
        }
        assert!(acme.has_key_value("b/k").await.unwrap());
        assert_eq!(globex.key_value("b/k").await.unwrap(), None);
        assert!(!globex.has_key_value("b/k").await.unwrap());
        assert!(!globex.remove_key_value("b/k").await.unwrap());
        assert_eq!(globex.increment_key_value("b/k", 2).await.unwrap(), 2);
        assert!(acme.remove_key_value("b/k").await.unwrap());
        assert!(!acme.remove_key_value("b/k").await.unwrap());
        assert_eq!(globex.key_value("b/k").await.unwrap().unwrap(), b"2");
    })
    .await;
}

#[tokio::test]
async fn keys_are_listed_in_pages_of_a_range() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        for key in ["a/z", "b/3", "b/1", "b/2", "b0", "b", "c/1"] {
            acme.put_key_value(key, b"").await.unwrap();
        }
        let page = async |after, limit| acme.keys_between("b/", "b0", after, limit).await.unwrap();
        assert_eq!(page(None, 10).await, ["b/1", "b/2", "b/3"]);
        assert_eq!(page(None, 2).await, ["b/1", "b/2"]);
        assert_eq!(page(Some("b/2"), 2).await, ["b/3"]);
        assert_eq!(page(Some("b/3"), 2).await, [""; 0]);
        // The key a page ended with may be gone when the next is asked for.
        assert!(acme.remove_key_value("b/1").await.unwrap());
        assert_eq!(page(Some("b/1"), 1).await, ["b/2"]);
    })
    .await;
}

#[tokio::test]
async fn increments_at_once_are_all_counted() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let adds = (0..20).map(|_| acme.increment_key_value("b/n", 3));
        for sum in futures::future::join_all(adds).await {
            assert_eq!(sum.unwrap() % 3, 0);
        }
        assert_eq!(acme.key_value("b/n").await.unwrap().unwrap(), b"60");
        let beyond = acme.increment_key_value("b/n", u64::MAX).await;
        assert_eq!(why(beyond), "is beyond 64 bits");
        acme.put_key_value("b/n", b"-1").await.unwrap();
        let text = acme.increment_key_value("b/n", 1).await;
        assert_eq!(why(text), "is not a decimal number");
        assert_eq!(acme.key_value("b/n").await.unwrap().unwrap(), b"-1");
    })
    .await;
}

#[tokio::test]
async fn keys_values_and_their_sum_are_bounded() {
    on_both(async |store| {
        let (_, acme) = tenant(store, "acme").await;
        let (_, globex) = tenant(store, "globex").await;
        let value = vec![7; VALUE_CAP];
        for key in ["", &"k".repeat(KEY_CAP + 1)] {
            why(acme.put_key_value(key, b"").await);
            why(acme.key_value(key).await);
        }
        why(acme.put_key_value("nul\0", b"").await);
        why(acme.put_key_value("k", &vec![7; VALUE_CAP + 1]).await);
        acme.put_key_value(&"k".repeat(KEY_CAP), &value)
            .await
            .unwrap();

        let fits = TENANT_CAP as usize / (VALUE_CAP + 64 + KEY_CAP);
        let key = |n: usize| format!("{n:0>KEY_CAP$}");
        for n in 1..fits {
            acme.put_key_value(&key(n), &value).await.unwrap();
        }
        let full = "is full: 16 MiB of the tenant";
        assert_eq!(why(acme.put_key_value(&key(0), &value).await), full);
        assert!(!acme.has_key_value(&key(0)).await.unwrap());
        // The same key again takes no more; what is given back can be used; another tenant has its own.
        acme.put_key_value(&key(1), &value).await.unwrap();
        assert!(acme.remove_key_value(&key(1)).await.unwrap());
        acme.put_key_value(&key(0), &value).await.unwrap();
        assert_eq!(why(acme.put_key_value(&key(1), &value).await), full);
        globex.put_key_value("k", &value).await.unwrap();
    })
    .await;
}
