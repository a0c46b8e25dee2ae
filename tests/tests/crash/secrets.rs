//! What the guard remembers of keys and passwords.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use lab::pair::{ELECTION, Pair, fast, router};
use lab::wait_until;

#[test]
fn the_guard_wipes_a_key_that_it_needs_no_more() -> Result<()> {
    let pair = Pair::new()?;
    let key = "Zq7-a_key_that_stands_nowhere_else";
    let more = format!("authentication = {{ type = \"hmac\", key_id = 1, key = \"{key}\" }}\n");
    forgotten(&pair, &fast(150, &more), key)
}

#[test]
fn the_guard_wipes_a_password_that_it_needs_no_more() -> Result<()> {
    let pair = Pair::new()?;
    let more = "authentication = { type = \"pass\", key = \"Zq7_pa5s\" }\n";
    forgotten(&pair, &(router(150) + more), "Zq7_pa5s")
}

fn forgotten(pair: &Pair, config: &str, secret: &str) -> Result<()> {
    let lb1 = lab::director::Director::start(&pair.lb1, config)?;
    pair.wait_for_holders(&["lb1"])?;
    let guard = lb1.guard()?.context("no guard")?;
    // A master's guard can say that it is gone.
    wait_until(ELECTION, "the secret is there", || {
        Ok(count(guard, secret)? > 0)
    })?;
    // More wills, one after the other.
    for state in ["on", "off", "on", "off", "on"] {
        lb1.vipctl(&["maintenance", state])?;
        let (role, holders): (_, &[&str]) = match state {
            "on" => ("fault", &[]),
            _ => ("master", &["lb1"]),
        };
        lb1.wait_for_state(role)?;
        pair.wait_for_holders(holders)?;
    }
    let mut left = 0;
    wait_until(ELECTION, "the secret is gone", || {
        left = count(guard, secret)?;
        Ok(left == 0)
    })
    .with_context(|| format!("it stands in {left} places"))?;
    ensure!(lb1.guard()? == Some(guard), "it is another guard");
    Ok(())
}

/// How often something stands in the memory of a process.
fn count(id: u32, secret: &str) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let memory = File::open(format!("/proc/{id}/mem"))?;
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) = line
            .split_whitespace()
            .next()
            .and_then(|range| range.split_once('-'))
            .context("no range")?;
        let (start, end) = (
            u64::from_str_radix(start, 16)?,
            u64::from_str_radix(end, 16)?,
        );
        let mut bytes = vec![0; usize::try_from(end - start)?];
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            let windows = bytes.windows(secret.len());
            count += windows.filter(|it| *it == secret.as_bytes()).count();
        }
    }
    Ok(count)
}
