//! Directors that agree on a password or a key, and those that do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use lab::advert::Forged;
use lab::director::Director;
use lab::pair::{ELECTION, Pair, fast};
use lab::wait_until;
use serde_json::json;

#[test]
fn directors_with_one_password_agree_and_never_show_it() -> Result<()> {
    let pair = Pair::new()?;
    let stranger = pair.lab.host("stranger", "10.77.0.66/24")?;
    let file = pair.lab.folder().join("password");
    fs::write(&file, "s3cret\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let with = |priority, key: &str| {
        let authentication = format!("authentication = {{ type = \"pass\", key = \"{key}\" }}");
        fast(priority, &authentication)
            .replace("version = 3\nadvert_interval = \"100ms\"", "version = 2")
    };
    let from_file = format!("file:{}", file.display());
    let (lb1, lb2) = pair.start_with(&with(150, "s3cret"), &with(100, &from_file))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    for forged in [
        Forged::v2(),
        Forged {
            interval: 0x0101,
            data: b"wrong\0\0\0".to_vec(),
            ..Forged::v2()
        },
    ] {
        let before = lb1.discarded("authentication")?;
        forged.send_from(&stranger)?;
        lb1.wait_for_status(
            "/vrrp/0/counters/discarded/authentication",
            &json!(before + 1),
        )?;
    }
    pair.wait_for_holders(&["lb1"])?;
    // The wrong one on one side: a reload that is refused, and one that is not.
    lb2.reload(&with(100, "s3cret").replace("s3cret", "s3cretlong"))?;
    lb2.wait_for_status("/config/last_reload/ok", &json!(false))?;
    lb2.reload(&with(100, "s3cres"))?;
    lb2.wait_for_status("/config/last_reload/ok", &json!(true))?;
    lb2.wait_for_event(&["vrrp.incompatible web", "10.77.0.11"])?;
    for director in [&lb1, &lb2] {
        let shown = [
            director.log(),
            director.status()?.to_string(),
            director.status_text()?,
            director.events()?.join("\n"),
        ]
        .concat();
        for secret in ["s3cre", "wrong\0", "hex"] {
            ensure!(!shown.contains(secret), "{shown}");
        }
    }
    Ok(())
}

fn hmac(priority: u8, id: u8, key: char, more: &str) -> String {
    let key = key.to_string().repeat(32);
    let authentication =
        format!("authentication = {{ type = \"hmac\", key_id = {id}, key = \"{key}\"{more} }}");
    fast(priority, &authentication)
}

#[test]
fn directors_with_one_hmac_key_agree_and_the_wrong_key_is_no_master() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_with(&hmac(150, 1, 'a', ""), &hmac(100, 1, 'a', ""))?;
    pair.wait_for_holders(&["lb1"])?;
    lb2.wait_for_status("/vrrp/0/master/priority", &json!(150))?;
    for reason in [
        "hmac",
        "hmac_key",
        "hmac_missing",
        "hmac_window",
        "hmac_replay",
    ] {
        ensure!(lb2.discarded(reason)? == 0, "{reason}");
    }
    lb1.reload(&hmac(150, 1, 'b', ""))?;
    lb2.wait_for_event(&["vrrp.incompatible web", "10.77.0.11"])?;
    wait_until(ELECTION, "wrong digests", || Ok(lb2.discarded("hmac")? > 3))?;
    for director in [&lb1, &lb2] {
        let shown = [director.log(), director.status()?.to_string()].concat();
        ensure!(
            !shown.contains("aaaaaaaa") && !shown.contains("bbbbbbbb"),
            "{shown}"
        );
    }
    Ok(())
}

#[test]
fn hmac_is_rolled_out_and_its_key_is_changed_without_anybody_taking_over() -> Result<()> {
    let pair = Pair::new()?;
    let (lb1, lb2) = pair.start_fast("")?;
    let steps: [(&Director, &str, String); 8] = [
        // First everybody accepts both, then everybody signs, then nothing else is accepted.
        (
            &lb2,
            "lb2 permissive",
            hmac(100, 1, 'a', ", mode = \"permissive\""),
        ),
        (
            &lb1,
            "lb1 permissive",
            hmac(150, 1, 'a', ", mode = \"permissive\""),
        ),
        (&lb2, "lb2 enforces", hmac(100, 1, 'a', "")),
        (&lb1, "lb1 enforces", hmac(150, 1, 'a', "")),
        (
            &lb2,
            "lb2 knows the new key",
            hmac(
                100,
                1,
                'a',
                ", keys = [{ id = 2, key = \"22222222222222222222222222222222\" }]",
            ),
        ),
        (
            &lb1,
            "lb1 signs with it",
            hmac(
                150,
                2,
                '2',
                ", keys = [{ id = 1, key = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" }]",
            ),
        ),
        (&lb2, "lb2 signs with it", hmac(100, 2, '2', "")),
        (&lb1, "lb1 forgets the old one", hmac(150, 2, '2', "")),
    ];
    for (director, step, config) in steps {
        let loaded = director.status()?["config"]["loaded"].clone();
        director.reload(&config)?;
        wait_until(ELECTION, step, || {
            Ok(director.status()?["config"]["loaded"] != loaded)
        })?;
        let received = |lb2: &Director| -> Result<Option<u64>> {
            Ok(lb2.status()?["vrrp"][0]["counters"]["adverts_received"].as_u64())
        };
        let before = received(&lb2)?;
        wait_until(ELECTION, &format!("after {step} lb2 hears lb1"), || {
            Ok(received(&lb2)? > before.map(|count| count + 3))
        })?;
        ensure!(
            lb1.status()?["vrrp"][0]["transitions"] == 2,
            "{step}: {:#?}",
            lb1.events()?
        );
        ensure!(
            lb2.status()?["vrrp"][0]["transitions"] == 1,
            "{step}: {:#?}",
            lb2.events()?
        );
    }
    pair.wait_for_holders(&["lb1"])
}
