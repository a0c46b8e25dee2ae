//! The agent probe, against agents that say what a test says.

use std::net::SocketAddr;
use std::time::Duration;

use health::{AgentSpec, CheckKind, CheckSpec, Failure, Passed, Probe, Weight};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::socket::{black_hole, free_address, listen};
use crate::spec;

const NOTHING_ASKED: Passed = Passed {
    warning: None,
    weight: None,
};

#[tokio::test]
async fn what_the_agent_says_is_the_outcome_however_the_line_ends() {
    let percent = |share| Passed {
        weight: Some(Weight::Percent(share)),
        ..NOTHING_ASKED
    };
    for (answer, passed) in [
        ("up\n", NOTHING_ASKED),
        ("up", NOTHING_ASKED),
        ("up\r\nand much more that nobody reads\n", NOTHING_ASKED),
        ("up 75%\n", percent(75)),
        ("drain\n", percent(0)),
    ] {
        let address = says(&[answer]).await;
        assert_eq!(ask(address, "").await, Ok(passed), "{answer:?}");
    }
    let address = says(&["down # disk", " full\n"]).await;
    let outcome = ask(address, "").await;
    let words = "the agent says down: disk full".to_owned();
    assert_eq!(outcome, Err(Failure::Answer(words)));
}

#[tokio::test]
async fn what_is_to_be_sent_is_sent() {
    let (listener, address) = listen().await;
    let (outcome, ()) = tokio::join!(ask(address, "backend web\n"), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 12];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"backend web\n");
        stream.write_all(b"ready\n").await.unwrap();
    });
    assert_eq!(outcome, Ok(NOTHING_ASKED));
}

#[tokio::test]
async fn an_agent_on_ipv6_is_asked() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (outcome, ()) = tokio::join!(ask(address, ""), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"up\n").await.unwrap();
    });
    assert_eq!(outcome, Ok(NOTHING_ASKED));
}

#[tokio::test]
async fn what_is_not_the_protocol_fails_and_says_what_came() {
    let long = "x".repeat(3000);
    for (answer, words) in [
        ("", "not a valid answer: the agent says nothing"),
        ("\n", "not a valid answer: the agent says nothing"),
        ("SSH-2.0-OpenSSH_9.2\n", "says \"ssh-2.0-openssh_9.2\""),
        (&*long, "a line of more than 1024 bytes"),
    ] {
        let failure = ask(says(&[answer]).await, "").await.unwrap_err();
        assert_eq!(failure.reason(), "protocol", "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[tokio::test]
async fn no_agent_is_a_failure_as_any_other() {
    assert_eq!(ask(free_address(), "").await, Err(Failure::Refused));

    let (listener, address) = listen().await;
    let (outcome, ()) = tokio::join!(ask(address, ""), async {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
    });
    assert_eq!(outcome, Err(Failure::Reset));
}

#[tokio::test]
async fn silence_is_a_timeout_that_says_how_far_it_came() {
    let (hole, _open) = black_hole().await;
    let (_listener, mute) = listen().await;
    let (halting, address) = listen().await;
    tokio::spawn(async move {
        let (mut stream, _) = halting.accept().await.unwrap();
        stream.write_all(b"up").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    for (address, words) in [
        (hole, "still connecting"),
        (mute, "waiting for the response"),
        (address, "2 bytes came, and no end of the line"),
    ] {
        let check = CheckSpec {
            timeout: Duration::from_millis(300),
            ..agent(address, "")
        };
        let failure = run(&check).await.unwrap_err();
        assert_eq!(failure.reason(), "timeout");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

fn agent(target: SocketAddr, send: &str) -> CheckSpec {
    let send = send.to_owned();
    spec(target, CheckKind::Agent(AgentSpec { send }))
}

async fn ask(target: SocketAddr, send: &str) -> Result<Passed, Failure> {
    run(&agent(target, send)).await
}

async fn run(check: &CheckSpec) -> Result<Passed, Failure> {
    Probe::new(check)?.run().await
}

/// An agent that says these pieces to whoever connects, and closes.
async fn says(pieces: &[&str]) -> SocketAddr {
    let (listener, address) = listen().await;
    let pieces: Vec<String> = pieces.iter().map(ToString::to_string).collect();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    address
}
