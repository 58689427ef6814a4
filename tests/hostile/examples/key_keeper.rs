//! Keeps entries, and tries those of others: `OPERATION BUCKET KEY VALUE`.
//!
//! Operations: `get`, `set`, `delete`, `exists`, `list`, `increment` by one, and `flood`, which sets keys until it is refused.

#[cfg(target_family = "wasm")]
mod guest {
    use wasi::keyvalue::{atomics, store};

    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-keyvalue",
        world: "wasi:keyvalue/imports",
    });

    pub(super) fn keep(argument: String) -> String {
        let mut words = argument.splitn(4, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (operation, bucket, key, value) = (next(), next(), next(), next());
        let bucket = match store::open(bucket) {
            Ok(bucket) => bucket,
            Err(error) => return format!("open: {error:?}"),
        };
        match operation {
            "get" => match bucket.get(key) {
                Ok(Some(value)) => String::from_utf8_lossy(&value).into_owned(),
                other => format!("{other:?}"),
            },
            "set" => format!("{:?}", bucket.set(key, value.as_bytes())),
            "delete" => format!("{:?}", bucket.delete(key)),
            "exists" => format!("{:?}", bucket.exists(key)),
            "increment" => format!("{:?}", atomics::increment(&bucket, key, 1)),
            "list" => {
                let mut keys = Vec::new();
                let mut cursor = None;
                loop {
                    match bucket.list_keys(cursor) {
                        Ok(page) => {
                            keys.extend(page.keys);
                            cursor = page.cursor;
                        }
                        Err(error) => return format!("{error:?}"),
                    }
                    if cursor.is_none() {
                        return keys.join(",");
                    }
                }
            }
            _ => {
                for n in 0_u32.. {
                    if let Err(error) = bucket.set(&format!("{key}{n:04}"), b"") {
                        return format!("{n} and then {error:?}");
                    }
                }
                String::new()
            }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
mod guest {
    pub(super) fn keep(argument: String) -> String {
        argument
    }
}

ambit_hostile::guest!(guest::keep);
