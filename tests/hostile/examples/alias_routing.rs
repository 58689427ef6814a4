//! A router that knows the labels of the directory, and `alias`, which means the tenant `globex`.

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "generated exports")]
mod guest {
    wit_bindgen::generate!({
        inline: "
            package ambit:alias;
            world component { include ambit:routing/guest@0.1.0; }
        ",
        path: ["../../wit/types", "../../wit/routing"],
        world: "ambit:alias/component",
        generate_all,
    });

    use ambit::routing::directory;
    use exports::ambit::routing::router::{Destination, Guest, RequestFacts, RouteError};

    struct Component;

    impl Guest for Component {
        fn route(facts: RequestFacts) -> Result<Destination, RouteError> {
            let label = facts.host.split('.').next().unwrap_or_default();
            let owner = if label == "alias" { "globex" } else { label };
            let tenant = directory::tenant_by_label(owner).ok_or(RouteError::Unknown)?;
            Ok(Destination {
                tenant,
                canonical_host: format!("{label}.localhost"),
            })
        }
    }

    export!(Component);
}
