//! The ambit against the naive model.

mod common;

use ambit_policy::{Ambit, Class, Link, Permissions};
use common::{World, asked, grant, intersect, world};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use url::Url;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_ambit_is_the_intersection(author in world(), operator in world(), tenant in world(), token in world()) {
        let base = Ambit::new(grant(&author), grant(&operator));
        prop_assert_eq!(asked(&base), intersect(&[&author, &operator]));
        let narrowed = base.narrowed_by_tenant(Some(grant(&tenant))).narrowed_by_token(Some(grant(&token)));
        prop_assert_eq!(asked(&narrowed), intersect(&[&author, &operator, &tenant, &token]));
    }

    #[test]
    fn a_child_never_has_more_than_its_parent(author in world(), operator in world(), steps in proptest::collection::vec(world(), 1..4)) {
        let mut ambit = Ambit::new(grant(&author), grant(&operator));
        for step in &steps {
            let child = ambit.clone().narrowed_by_token(Some(grant(step)));
            prop_assert!(asked(&child).is_subset(&asked(&ambit)));
            prop_assert!(asked(&child).is_subset(&step.allowed()));
            ambit = child;
        }
        // What does not narrow changes nothing, and narrowing by the same grant again changes nothing.
        let again = ambit.clone().narrowed_by_tenant(None).narrowed_by_token(steps.last().map(grant));
        prop_assert_eq!(asked(&again), asked(&ambit));
    }

    #[test]
    fn the_order_of_narrowing_makes_no_difference(author in world(), operator in world(), one in world(), two in world()) {
        let base = Ambit::new(grant(&author), grant(&operator));
        let swapped = Ambit::new(grant(&operator), grant(&author));
        let ahead = base.clone().narrowed_by_token(Some(grant(&one))).narrowed_by_token(Some(grant(&two)));
        let back = swapped.narrowed_by_token(Some(grant(&two))).narrowed_by_token(Some(grant(&one)));
        prop_assert_eq!(asked(&ahead), asked(&back));
    }

    #[test]
    fn a_class_is_linked_iff_something_of_it_can_match(author in world(), operator in world()) {
        let ambit = Ambit::new(grant(&author), grant(&operator));
        let possible = intersect(&[&author, &operator]);
        for class in [Class::Http, Class::Models, Class::Collections, Class::KeyValue] {
            let some = possible.iter().any(|action| action.starts_with(class.as_str()));
            prop_assert_eq!(ambit.link(class) == Link::Granted, some, "{} {:?}", class, possible);
            prop_assert_eq!(ambit.link(class) == Link::Absent, author.permissions().is_empty(class));
        }
        // Narrowing by value leaves the links alone: one linker serves all tenants.
        let narrowed = ambit.clone().narrowed_by_tenant(Some(Arc::default()));
        prop_assert!(Class::ALL.iter().all(|class| narrowed.link(*class) == ambit.link(*class)));
        prop_assert!(asked(&narrowed).is_empty());
    }

    #[test]
    fn missing_lists_each_request_that_nothing_is_granted_for(author in world(), operator in world()) {
        let missing: Vec<_> = Ambit::new(grant(&author), grant(&operator)).missing();
        let expected = if author.optional { 0 } else {
            let each = |rule: World| usize::from(intersect(&[&rule, &operator]).is_empty());
            let none = World { http: vec![], models: vec![], collections: vec![], keys: vec![], optional: false };
            author.http.iter().map(|rule| each(World { http: vec![rule.clone()], ..none.clone() })).sum::<usize>()
                + author.models.iter().map(|rule| each(World { models: vec![*rule], ..none.clone() })).sum::<usize>()
                + author.collections.iter().map(|rule| each(World { collections: vec![*rule], ..none.clone() })).sum::<usize>()
                + author.keys.iter().map(|rule| each(World { keys: vec![*rule], ..none.clone() })).sum::<usize>()
        };
        prop_assert_eq!(missing.len(), expected, "{:?}", missing);
    }

    #[test]
    fn what_is_written_is_what_is_read(world in world()) {
        let permissions = world.permissions();
        let json = serde_json::to_string(&permissions).unwrap();
        prop_assert_eq!(serde_json::from_str::<Permissions>(&json).unwrap(), permissions);
    }

    #[test]
    fn no_text_breaks_a_check(method in ".*", path in ".*", key in ".*", provider in ".*", model in ".*") {
        let all = Arc::new(Permissions::parse(
            "models = [\"*\"]\nkeyvalue = [\"a*\"]\nhttp = [{ origin = \"https://a.test\", methods = [\"GET\"], path = \"/v1\" }]",
        ).unwrap());
        let ambit = Ambit::new(all.clone(), all);
        prop_assert!(ambit.model(&provider, &model).is_ok());
        prop_assert_eq!(ambit.key(&key).is_ok(), key.starts_with('a'));
        if let Ok(url) = Url::parse(&format!("https://a.test/{path}")) {
            let allowed = ambit.http(&method, &url).is_ok();
            prop_assert!(!allowed || (method == "GET" && (url.path() == "/v1" || url.path().starts_with("/v1/"))));
        }
    }
}

#[test]
fn a_denial_says_who_refused_and_shows_no_query() {
    let author = Arc::new(
        Permissions::parse("http = [{ origin = \"https://*\", methods = [\"GET\"] }]").unwrap(),
    );
    let narrow = Arc::new(
        Permissions::parse("http = [{ origin = \"https://a.test\", methods = [\"GET\"] }]")
            .unwrap(),
    );
    let url = Url::parse("https://b.test:444/p?token=hunter2#x").unwrap();
    let text = |ambit: Ambit, url: &Url| ambit.http("GET", url).unwrap_err().to_string();
    let base = |operator: &Arc<Permissions>| Ambit::new(author.clone(), operator.clone());
    let plain = Url::parse("https://b.test/p?token=hunter2").unwrap();
    assert_eq!(
        text(base(&author), &url),
        "GET https://b.test:444/p: the component's manifest does not ask for it"
    );
    assert_eq!(
        text(base(&narrow), &plain),
        "GET https://b.test/p: the operator's grant does not cover it"
    );
    let tenant = base(&author).narrowed_by_tenant(Some(narrow.clone()));
    assert_eq!(
        text(tenant, &plain),
        "GET https://b.test/p: the tenant's grant does not cover it"
    );
    let token = base(&author).narrowed_by_token(Some(narrow));
    assert_eq!(
        text(token, &plain),
        "GET https://b.test/p: the caller's token does not cover it"
    );
    let userinfo = Url::parse("https://a.test:pw@b.test/").unwrap();
    assert_eq!(
        text(base(&author), &userinfo),
        "GET https://b.test/: a URL with user information is never granted"
    );
}

#[test]
fn a_prefix_is_open_where_a_key_under_it_may_be() {
    let keys = |rules: &[&str]| {
        Arc::new(serde_json::from_value::<Permissions>(json!({ "keyvalue": rules })).unwrap())
    };
    let ambit = Ambit::new(
        keys(&["cache/*", "state/one"]),
        keys(&["cache/a*", "state/*", "log/*"]),
    );
    for (prefix, open) in [
        ("cache/", true),
        ("state/", true),
        ("log/", false),
        ("cach", true),
        ("cache/b", false),
        ("state/one/", false),
        ("", true),
    ] {
        let permit = ambit.keys_under(prefix).ok();
        let allowed = permit.as_ref().map(|permit| permit.prefix.as_str());
        assert_eq!(allowed, open.then_some(prefix), "{prefix}");
    }
    let narrowed = ambit.narrowed_by_tenant(Some(keys(&["state/two"])));
    assert!(narrowed.keys_under("cache/").is_err());
    assert!(
        narrowed.keys_under("state/").is_ok(),
        "some key, for each layer alone"
    );
    assert!(narrowed.key("state/one").is_err() && narrowed.key("state/two").is_err());
}

#[test]
fn a_secret_goes_where_all_agree() {
    let secrets = |header: &str, origin: &str| {
        Arc::new(
            Permissions::parse(&format!(
                "secrets = [{{ name = \"token\", header = \"{header}\", origin = \"{origin}\" }}]"
            ))
            .unwrap(),
        )
    };
    let ambit = Ambit::new(
        secrets("Authorization", "https://*.a.test"),
        secrets("authorization", "https://api.a.test"),
    );
    let url = Url::parse("https://api.a.test/").unwrap();
    assert!(ambit.secret("token", "AUTHORIZATION", &url).is_ok());
    assert_eq!(Vec::from_iter(ambit.secret_names()), ["token"]);
    let elsewhere = secrets("x-token", "https://api.a.test");
    for narrowed in [
        ambit.clone().narrowed_by_tenant(Some(elsewhere.clone())),
        ambit.clone().narrowed_by_token(Some(elsewhere)),
        ambit.clone().narrowed_by_tenant(Some(Arc::default())),
    ] {
        assert!(narrowed.secret_names().is_empty(), "no handle either");
    }
    for (name, header, to) in [
        ("other", "authorization", "https://api.a.test/"),
        ("token", "x-token", "https://api.a.test/"),
        ("token", "authorization", "https://x.a.test/"),
        ("token", "authorization", "http://api.a.test/"),
        ("token", "authorization", "https://api.a.test:8443/"),
        ("token", "authorization", "https://api.a.test@evil.test/"),
    ] {
        assert!(
            ambit
                .secret(name, header, &Url::parse(to).unwrap())
                .is_err(),
            "{name} {header} {to}"
        );
    }
    let elsewhere = Ambit::new(
        secrets("authorization", "https://a.test"),
        secrets("authorization", "https://b.test"),
    );
    assert_eq!(
        (elsewhere.secret_names().len(), elsewhere.missing().len()),
        (0, 1)
    );
}
