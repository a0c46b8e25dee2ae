//! The SMTP probe: against aiosmtpd, and against servers that misbehave at every step.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use health::{CheckKind, CheckSpec, Failure, Phase, Probe, SmtpSpec, TlsSpec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::certificates::{Validity, authority, issue};
use crate::scratch::Scratch;
use crate::socket::{black_hole, free_address, free_address_v6, listen};
use crate::tls_check::assert_ends_soon;
use crate::{probe, spec, tls_policy};

const BANNER: &str = "220 mail.test ESMTP\r\n";
const EHLO: &str = "250-mail.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n";

/// What a scripted server does next; each line of the client leads to the next thing.
#[derive(Clone, Copy)]
enum Then {
    Say(&'static str),
    SayAndClose(&'static str),
    Close,
    Reset,
    Hang,
}
use Then::{Close, Hang, Reset, Say, SayAndClose};

#[tokio::test]
async fn a_mail_server_passes_over_ipv4_and_ipv6() {
    let server = Aiosmtpd::start(free_address(), None);
    check(server.address, plain(), "ok").await;
    let named = SmtpSpec {
        helo: Some("lb1.test".into()),
        starttls: None,
    };
    check(server.address, named, "ok").await;

    let server = Aiosmtpd::start(free_address_v6(), None);
    check(server.address, plain(), "ok").await;
}

#[tokio::test]
async fn starttls_is_asked_for_and_its_certificate_judged() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    authority(dir);
    issue(dir, "good", "DNS:mail.test", Validity::Now);
    issue(dir, "old", "DNS:mail.test", Validity::Past);
    let policy = |name: &str| TlsSpec {
        ca: Some(dir.join("ca.pem")),
        ..tls_policy(true, Some(name))
    };

    let server = Aiosmtpd::start(free_address(), Some((dir, "good")));
    check(server.address, starttls(policy("mail.test")), "ok").await;
    check(
        server.address,
        starttls(policy("other.test")),
        "certificate is not for other.test but for mail.test",
    )
    .await;
    let soon = TlsSpec {
        expires_within: Duration::from_secs(30 * 86_400),
        ..policy("mail.test")
    };
    let check_soon = spec(server.address, CheckKind::Smtp(starttls(soon)));
    let passed = Probe::new(&check_soon).unwrap().run().await.unwrap();
    assert_ends_soon(passed.warning.as_deref());

    let server = Aiosmtpd::start(free_address(), Some((dir, "old")));
    let expired = starttls(policy("mail.test"));
    check(server.address, expired, "certificate has expired").await;

    let server = Aiosmtpd::start(free_address(), None);
    check(
        server.address,
        starttls(tls_policy(false, None)),
        "the server does not offer STARTTLS",
    )
    .await;
}

#[tokio::test]
async fn each_answer_that_is_not_the_wanted_one_is_named() {
    for (script, words) in [
        (
            vec![Say("554 5.3.2 no service here\r\n")],
            r#"the greeting is 554 "5.3.2 no service here", wanted 220"#,
        ),
        (
            vec![Say(BANNER), Say("502-no\r\n502 never\r\n")],
            r#"the answer to EHLO is 502 "never", wanted 250"#,
        ),
        (
            vec![Say(BANNER), Say(EHLO), Say("454 later\r\n")],
            r#"the answer to STARTTLS is 454 "later", wanted 220"#,
        ),
    ] {
        let address = scripted(script).await;
        check(address, starttls(tls_policy(false, None)), words).await;
    }
    let address = scripted(vec![Say(BANNER), Say(EHLO), Say("421\r\n")]).await;
    let words = r#"the answer to QUIT is 421 "", wanted 221"#;
    check(address, plain(), words).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout_that_says_where() {
    let (hole, _open) = black_hole().await;
    let failure = hasty(hole, plain()).await;
    assert!(
        failure.to_string().ends_with("(still connecting)"),
        "{failure}"
    );
    for (script, smtp, words) in [
        (vec![Hang], plain(), "waiting for the greeting"),
        (
            vec![Say("220-mail.test is\r\n220-very")],
            plain(),
            "waiting for the greeting",
        ),
        (
            vec![Say(BANNER), Hang],
            plain(),
            "waiting for the answer to EHLO",
        ),
        (
            vec![Say(BANNER), Say(EHLO), Hang],
            plain(),
            "waiting for the answer to QUIT",
        ),
        (
            vec![Say(BANNER), Say(EHLO), Hang],
            starttls(tls_policy(false, None)),
            "waiting for the answer to STARTTLS",
        ),
        (
            vec![Say(BANNER), Say(EHLO), Say("220 go\r\n"), Hang],
            starttls(tls_policy(false, None)),
            "in the TLS handshake",
        ),
    ] {
        let address = scripted(script).await;
        let failure = hasty(address, smtp).await;
        assert_eq!(failure.reason(), "timeout", "{failure}");
        let said = failure.to_string();
        assert!(
            said.starts_with("no answer within 400ms (connected after ")
                && said.ends_with(&format!(" ms, {words})")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_where() {
    check(free_address(), plain(), "connection refused").await;
    for (script, words) in [
        (
            vec![Close],
            "not a valid answer: the server closed the connection before the greeting",
        ),
        (
            vec![SayAndClose("220 mail")],
            "not a valid answer: the server closed the connection before the greeting",
        ),
        (vec![Reset], "connection reset by the peer"),
        (
            vec![Say(BANNER), Close],
            "not a valid answer: the server closed the connection before the answer to EHLO",
        ),
        (vec![Say(BANNER), Reset], "connection reset by the peer"),
        (
            vec![Say(BANNER), Say(EHLO), Say("220 go\r\n"), Close],
            "the server closed the connection in the TLS handshake",
        ),
        (
            vec![Say(BANNER), Say(EHLO), Say("220 go\r\n"), Reset],
            "connection reset by the peer",
        ),
    ] {
        let address = scripted(script).await;
        check(address, starttls(tls_policy(false, None)), words).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_smtp_is_a_protocol_failure() {
    let long: &'static str = "220 ".repeat(1000).leak();
    let endless: &'static str = "220-more\r\n".repeat(200).leak();
    for (script, words) in [
        (
            vec![Say("SSH-2.0-OpenSSH_9.2p1\r\n")],
            r#"not a valid answer: the greeting is not SMTP: "SSH-2.0-OpenSSH_9.2p1""#,
        ),
        (
            vec![Say("22é\r\n")],
            r#"not a valid answer: the greeting is not SMTP: "22é""#,
        ),
        (
            vec![Say(long)],
            "not a valid answer: the greeting has a line of more than 2048 bytes",
        ),
        (
            vec![Say(endless)],
            "not a valid answer: the greeting has more than 128 lines",
        ),
        (
            vec![Say(BANNER), Say(EHLO), Say("220 go\r\n250 before TLS\r\n")],
            "not a valid answer: more than one answer to STARTTLS",
        ),
        (
            vec![
                Say(BANNER),
                Say(EHLO),
                Say("220 go\r\n"),
                Say("221 what?\r\n"),
            ],
            "the server does not speak TLS on this port",
        ),
    ] {
        let address = scripted(script).await;
        check(address, starttls(tls_policy(false, None)), words).await;
    }
}

#[tokio::test]
async fn an_answer_may_have_many_lines_and_come_in_pieces() {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stream = BufReader::new(stream);
        for answer in ["220-hello\r\n220\r\n", EHLO, "221 bye\r\n"] {
            for byte in answer.bytes() {
                stream.get_mut().write_all(&[byte]).await.unwrap();
            }
            stream.read_line(&mut String::new()).await.unwrap();
        }
    });
    check(address, plain(), "ok").await;
}

fn plain() -> SmtpSpec {
    SmtpSpec {
        helo: None,
        starttls: None,
    }
}

fn starttls(tls: TlsSpec) -> SmtpSpec {
    SmtpSpec {
        helo: None,
        starttls: Some(tls),
    }
}

async fn check(target: SocketAddr, smtp: SmtpSpec, expected: &str) {
    let outcome = probe(&spec(target, CheckKind::Smtp(smtp))).await;
    let words = outcome.map_or_else(|failure| failure.to_string(), |()| "ok".into());
    assert_eq!(words, expected);
}

async fn hasty(target: SocketAddr, smtp: SmtpSpec) -> Failure {
    let check = CheckSpec {
        timeout: Duration::from_millis(400),
        ..spec(target, CheckKind::Smtp(smtp))
    };
    probe(&check).await.unwrap_err()
}

/// A server that does these things to its one client: the first at once, each other one after a line
/// of the client's (or whatever came: a handshake has no lines).
async fn scripted(script: Vec<Then>) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut first = true;
        for then in script {
            if !first {
                stream.fill_buf().await.unwrap();
                let read = stream.buffer().len();
                stream.consume(read);
            }
            first = false;
            match then {
                Say(text) => stream.get_mut().write_all(text.as_bytes()).await.unwrap(),
                SayAndClose(text) => {
                    stream.get_mut().write_all(text.as_bytes()).await.unwrap();
                    return;
                }
                Close => return,
                Reset => {
                    stream.get_ref().set_zero_linger().unwrap();
                    return;
                }
                Hang => break,
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    address
}

/// A mail server of Python's, as a child of the test.
struct Aiosmtpd {
    child: Child,
    address: SocketAddr,
}

impl Aiosmtpd {
    /// With the certificate of that name in that directory where it is to offer STARTTLS.
    fn start(address: SocketAddr, certificate: Option<(&Path, &str)>) -> Aiosmtpd {
        let mut command = Command::new("/usr/bin/python3");
        command
            .args(["-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Sink", "-l"])
            .arg(format!("{}:{}", address.ip(), address.port()));
        if let Some((dir, name)) = certificate {
            command
                .arg("--tlscert")
                .arg(dir.join(format!("{name}.pem")))
                .arg("--tlskey")
                .arg(dir.join(format!("{name}.key")))
                .arg("--no-requiretls");
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need python3");
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(address).is_err() {
            let gone = child.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let _gone_already = child.kill();
                panic!("aiosmtpd does not serve ({gone:?}); Debian: python3-aiosmtpd");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Aiosmtpd { child, address }
    }
}

impl Drop for Aiosmtpd {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn the_steps_of_a_traced_check_are_those_of_the_conversation() {
    let server = Aiosmtpd::start(free_address(), None);
    let check = spec(server.address, CheckKind::Smtp(plain()));
    let (steps, outcome) = Probe::trace(&check).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    let names: Vec<_> = steps.iter().map(|step| step.name).collect();
    assert_eq!(
        names,
        [
            "connect",
            "the greeting",
            "the answer to EHLO",
            "the answer to QUIT"
        ]
    );
    let hung = scripted(vec![Say(BANNER), Hang]).await;
    let check = CheckSpec {
        timeout: Duration::from_millis(400),
        ..spec(hung, CheckKind::Smtp(plain()))
    };
    let (steps, outcome) = Probe::trace(&check).await;
    let Err(Failure::Timeout {
        phase: Phase::WaitingFor { what, .. },
        ..
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(steps.last().unwrap().name, what);
}
