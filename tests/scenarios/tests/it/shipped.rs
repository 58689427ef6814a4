//! The components of an installation move with the program that serves it.

use ambit_scenarios::{Ambit, Signal, binary, shipped};

async fn bound(ambit: &Ambit) -> String {
    let listed = ambit.get("/slots").await.unwrap();
    let mut slots = listed["data"].as_array().unwrap().iter();
    let slot = slots.find(|slot| slot["slot"] == "tool/ambit:tool-datetime");
    slot.unwrap()["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ships_anew_takes_the_place_of_what_shipped_before() {
    let Some(binary) = binary() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, own) = (folder.path().join("data"), folder.path().join("shipped"));
    std::fs::create_dir(&own).unwrap();
    for entry in std::fs::read_dir(shipped(&binary)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), own.join(entry.file_name())).unwrap();
    }
    let path = own.display().to_string();
    let up = async || Ambit::up_with(&binary, &data, "127.0.0.1:0", &["--components", &path]).await;
    let end = async |mut ambit: Ambit| {
        ambit.signal(Signal::Terminate).await.unwrap();
        assert!(ambit.ended().await.unwrap().success());
    };
    let ambit = up().await.unwrap();
    let before = bound(&ambit).await;
    end(ambit).await;

    // A manifest that changed alone would go unnoticed: the component is known by its bytes. So it is refused.
    let manifest = own.join("tool-datetime.toml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, format!("{text}\n# Another manifest.\n")).unwrap();
    assert!(up().await.is_err());

    // As the build ships it: with the manifest in the bytes, here any custom section.
    let wasm = own.join("tool-datetime.wasm");
    let mut bytes = std::fs::read(&wasm).unwrap();
    bytes.extend(b"\0\x03\x01xy");
    std::fs::write(&wasm, bytes).unwrap();
    let ambit = up().await.unwrap();
    assert_ne!(bound(&ambit).await, before);
    end(ambit).await;
}
