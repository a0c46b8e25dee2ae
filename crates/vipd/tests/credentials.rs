//! Keys that systemd hands over: `credential:NAME`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEY: &str = "zQ7wK9xJ4vT2bN8mR6pL3sD5fG1hC0yA";

#[test]
fn a_key_is_read_from_a_credential() {
    let folder = Folder::new("good");
    fs::write(folder.0.join("vrrp"), format!("{KEY}\n")).unwrap();
    let (good, text) = check(&folder, "credential:vrrp", true);
    assert!(good, "{text}");
}

#[test]
fn what_is_wrong_with_a_credential_is_told_without_what_is_in_it() {
    let folder = Folder::new("bad");
    fs::write(folder.0.join("short"), &KEY[..20]).unwrap();
    for (key, given, expected) in [
        (
            "credential:none",
            true,
            "cannot read the credential none: No such file or directory",
        ),
        ("credential:none", true, "LoadCredential=none:/path"),
        (
            "credential:short",
            true,
            "a key has 32 to 64 bytes, this one has 20",
        ),
        ("credential:short", false, "there are no credentials here"),
        ("credential:short", false, "key = \"credential:short\""),
        (
            "credential:../short",
            true,
            "is not the name of a credential",
        ),
        ("credential:", true, "is not the name of a credential"),
    ] {
        let (good, text) = check(&folder, key, given);
        assert!(!good && text.contains(expected), "{key}: {text}");
        assert!(!text.contains(&KEY[..8]), "{text}");
    }
    // A key that only begins like one is none, and is not shown.
    let (_, text) = check(&folder, &format!("credential:{KEY}!"), true);
    assert!(!text.contains(&KEY[..8]), "{text}");
}

/// What `vipd check` says of that key.
fn check(folder: &Folder, key: &str, given: bool) -> (bool, String) {
    let file = folder.0.join("vipd.toml");
    let config = format!(
        "[[vrrp]]\nname = \"web\"\ninterface = \"eth0\"\nvrid = 51\nversion = 3\n\
         virtual_addresses = [\"10.77.0.10/24\"]\n\
         authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\" }}\n"
    );
    fs::write(&file, config).unwrap();
    let mut vipd = Command::new(env!("CARGO_BIN_EXE_vipd"));
    vipd.args(["check", "-c"]).arg(&file);
    vipd.env_remove("CREDENTIALS_DIRECTORY");
    if given {
        vipd.env::<_, &Path>("CREDENTIALS_DIRECTORY", &folder.0);
    }
    let output = vipd.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("vipd-credential-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
