use crate::support::{Layers, admitted, block_on, context_of, runtime};
use ambit_capabilities::{
    Narrowing,
    retrieval::{Attribute, Document, MediaType, Query, RetrievalError, Retriever, Value},
};
use ambit_index::{Index, IndexConfig};
use ambit_policy::{Access, Permissions};
use ambit_store::{Store, StoreConfig};
use std::sync::Arc;

fn document(id: &str, text: &str, year: f64) -> Document {
    Document {
        id: id.to_owned(),
        title: format!("About {id}"),
        media_type: MediaType::Markdown,
        text: text.to_owned(),
        attributes: vec![Attribute {
            name: "year".to_owned(),
            value: Value::Number(year),
        }],
    }
}

fn query(text: &str) -> Query {
    Query {
        text: text.to_owned(),
        max_results: 5,
        filter: None,
        mode: None,
    }
}

#[test]
fn finds_what_was_stored_for_its_tenant_and_nothing_else() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreConfig::sqlite(dir.path().join("ambit.db")))
            .await
            .unwrap();
        let index = Index::open(dir.path().join("index"), IndexConfig::default()).unwrap();
        let (acme, globex) = (
            store
                .operator()
                .create_tenant("acme".parse().unwrap(), "Acme")
                .await
                .unwrap(),
            store
                .operator()
                .create_tenant("globex".parse().unwrap(), "Globex")
                .await
                .unwrap(),
        );
        let (handbook, payroll) = ("handbook".parse().unwrap(), "payroll".parse().unwrap());
        for tenant in [&acme, &globex] {
            store
                .tenant(tenant.id)
                .ensure_collection(&handbook, None)
                .await
                .unwrap();
        }
        store
            .tenant(acme.id)
            .ensure_collection(&payroll, None)
            .await
            .unwrap();
        let retriever = Retriever::new(
            runtime(),
            &admitted("retrieval-hybrid"),
            store.clone(),
            index,
        )
        .unwrap();
        let (ours, theirs) = (context_of(acme.id, "acme"), context_of(globex.id, "globex"));
        let all = Narrowing::default();
        // A permit says what may be done, not for whom: the context does.
        let may = |name: &str| retriever.may_search(&ours, &all, &name.parse().unwrap());
        let (in_handbook, in_payroll) = (may("handbook").unwrap(), may("payroll").unwrap());

        let documents = vec![
            document(
                "guide/ambit.md",
                "# Ambit\n\nAn ambit is the set of permissions that remains for a component.\n",
                2026.0,
            ),
            document(
                "guide/journal.md",
                "# Journal\n\nThe journal is one append-only log of everything a session did.\n",
                2025.0,
            ),
        ];
        let report = retriever
            .ingest(&ours, &all, &handbook, documents.clone())
            .await
            .unwrap();
        assert_eq!((report.written, report.unchanged), (2, 0));
        let again = retriever
            .ingest(&ours, &all, &handbook, documents)
            .await
            .unwrap();
        assert_eq!((again.written, again.unchanged), (0, 2));

        let found = retriever
            .search(
                &ours,
                &all,
                &in_handbook,
                &query("permissions of a component"),
            )
            .await
            .unwrap();
        assert_eq!(found[0].document, "guide/ambit.md");
        assert!(found[0].text.contains("permissions"));
        assert_eq!(found[0].attributes[0].value, Value::Number(2026.0));
        let filtered = Query {
            filter: Some(r#"{"type":"lt","key":"year","value":2026}"#.to_owned()),
            ..query("journal")
        };
        assert_eq!(
            retriever
                .search(&ours, &all, &in_handbook, &filtered)
                .await
                .unwrap()[0]
                .document,
            "guide/journal.md"
        );

        // The other tenant has a collection of that name, and it is empty.
        assert_eq!(
            retriever
                .search(&theirs, &all, &in_handbook, &query("ambit"))
                .await
                .unwrap(),
            []
        );
        assert_eq!(
            retriever
                .stats(&theirs, &all, &handbook)
                .await
                .unwrap()
                .documents,
            0
        );
        let missing = retriever
            .search(&theirs, &all, &in_payroll, &query("x"))
            .await;
        assert!(
            matches!(missing, Err(RetrievalError::UnknownCollection(_))),
            "{missing:?}"
        );

        // What the tenant's grant or the caller's token leaves out is denied, there or not, and also to who has a permit of somebody else.
        let grant = Arc::new(Permissions::parse(r#"collections = ["read:handbook"]"#).unwrap());
        for (tenant, token) in [(Some(grant.clone()), None), (None, Some(grant.clone()))] {
            let (ours, narrowing) = Layers { tenant, token }.of(&ours);
            assert!(
                retriever
                    .search(&ours, &narrowing, &in_handbook, &query("ambit"))
                    .await
                    .is_ok()
            );
            for closed in ["payroll", "no-such-thing"] {
                let none = retriever.may_search(&ours, &narrowing, &closed.parse().unwrap());
                assert!(matches!(none, Err(RetrievalError::Denied(_))), "{none:?}");
                let permit = may(closed).unwrap();
                let denied = retriever
                    .search(&ours, &narrowing, &permit, &query("x"))
                    .await;
                assert!(
                    matches!(denied, Err(RetrievalError::Denied(_))),
                    "{denied:?}"
                );
            }
            let denied = retriever.delete(&ours, &narrowing, &handbook, "").await;
            assert!(
                matches!(denied, Err(RetrievalError::Denied(_))),
                "{denied:?}"
            );
        }

        let invalid = Query {
            filter: Some("{".to_owned()),
            ..query("x")
        };
        assert!(matches!(
            retriever.search(&ours, &all, &in_handbook, &invalid).await,
            Err(RetrievalError::Invalid(_))
        ));
        let many = Query {
            max_results: 101,
            ..query("x")
        };
        assert!(matches!(
            retriever.search(&ours, &all, &in_handbook, &many).await,
            Err(RetrievalError::Invalid(_))
        ));
        let ambit = admitted("retrieval-hybrid").ambit().clone();
        let to_write = ambit.collection(Access::Write, &handbook).unwrap();
        let denied = retriever
            .search(&ours, &all, &to_write, &query("ambit"))
            .await;
        assert!(
            matches!(denied, Err(RetrievalError::Denied(_))),
            "{denied:?}"
        );

        assert_eq!(
            retriever
                .delete(&ours, &all, &handbook, "guide/j")
                .await
                .unwrap(),
            1
        );
        assert_eq!(
            retriever
                .search(&ours, &all, &in_handbook, &query("journal append-only log"))
                .await
                .unwrap(),
            []
        );
        assert_eq!(
            retriever
                .stats(&ours, &all, &handbook)
                .await
                .unwrap()
                .documents,
            1
        );
    });
}
