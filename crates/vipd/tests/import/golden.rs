//! Whole files, and what is printed for them: `import/golden/NAME.in`, `.toml` and `.said`. With
//! `UPDATE_EXPECT=1` they are written anew.

use std::fs;
use std::path::Path;

use vipd::config::import::{Format, import};

use super::{Desk, config};

#[test]
fn whole_files_become_what_a_person_would_have_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/golden");
    let desk = Desk::with(&[
        (
            "conf.d/more.conf",
            "vrrp_instance more {\n  interface eth2\n  virtual_router_id 9\n  virtual_ipaddress {\n    10.2.0.1/24\n  }\n}\n",
        ),
        ("/etc/services", "http 80/tcp www\ndomain 53/udp\n"),
    ]);
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "in") {
            continue;
        }
        seen += 1;
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let format = match name.split('-').next() {
            Some("keepalived") => Format::Keepalived,
            Some("ipvsadm") => Format::Ipvsadm,
            Some("ldirectord") => Format::Ldirectord,
            _ => panic!("{name}"),
        };
        let text = fs::read_to_string(&path).unwrap();
        let imported = import(format, &format!("{name}.in"), &text, None, &desk);
        config(&imported);
        let lists = imported.warnings.iter().chain(&imported.problems);
        let said: String = lists.map(|list| format!("{list}\n\n")).collect();
        for (kind, got) in [("toml", &imported.toml), ("said", &said)] {
            let wanted = folder.join(format!("{name}.{kind}"));
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&wanted, got).unwrap();
            }
            let wanted = fs::read_to_string(&wanted).unwrap_or_default();
            assert_eq!(*got, wanted, "{name}.{kind}; UPDATE_EXPECT=1 writes it");
        }
    }
    assert!(seen >= 6, "{seen} files");
}
