//! The answer that passes: its status, and its body as far as it is read.

use std::error::Error;
use std::fmt::Write;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Bytes};
use sha2::{Digest, Sha256};

use crate::check::HttpSpec;
use crate::failure::{BodyWanted, Failure, Phase};
use crate::pattern::Pattern;
use crate::probe::explain::explain;
use crate::probe::progress;

/// How much of a body is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Wanted {
    /// Status codes that pass, as inclusive ranges.
    status: Vec<(u16, u16)>,
    text: Option<String>,
    pattern: Option<Pattern>,
    sha256: Option<[u8; 32]>,
}

/// A body on its way.
#[derive(Default)]
struct Reading {
    received: usize,
    /// What came, or, where nothing but a text is wanted, the end of it that may still become a match.
    kept: Vec<u8>,
    sum: Sha256,
}

impl Wanted {
    pub(super) fn new(http: &HttpSpec) -> Wanted {
        Wanted {
            status: http.status.clone(),
            text: http.body_contains.clone(),
            pattern: http.body_regex.clone(),
            sha256: http.body_sha256,
        }
    }

    pub(super) async fn judge<B>(&self, response: Response<B>) -> Result<(), Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error + 'static,
    {
        let got = response.status().as_u16();
        let passes = |(first, last): &(u16, u16)| (*first..=*last).contains(&got);
        if !self.status.iter().any(passes) {
            return Err(Failure::Status {
                got,
                wanted: self.status.clone(),
            });
        }
        if self.text.is_none() && !self.is_judged_at_its_end() {
            return Ok(());
        }
        self.read(got, response.into_body()).await
    }

    /// Whether it takes the whole body to judge it.
    fn is_judged_at_its_end(&self) -> bool {
        self.pattern.is_some() || self.sha256.is_some()
    }

    /// Reads the body as far as it takes to judge it, up to [`BODY_LIMIT`].
    async fn read<B>(&self, status: u16, mut body: B) -> Result<(), Failure>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Error + 'static,
    {
        let mut reading = Reading::default();
        loop {
            let received = reading.received;
            progress::enter(|_| Phase::Reading { status, received });
            let Some(frame) = body.frame().await else {
                return self.judge_body(reading, false);
            };
            // Trailers are no part of the body.
            let Ok(chunk) = frame.map_err(|error| explain(&error))?.into_data() else {
                continue;
            };
            let room = BODY_LIMIT - received;
            let taken = chunk.get(..room).unwrap_or(&chunk);
            reading.received += taken.len();
            if self.text.is_some() || self.pattern.is_some() {
                reading.kept.extend_from_slice(taken);
            }
            if self.sha256.is_some() {
                reading.sum.update(taken);
            }
            if let Some(text) = &self.text
                && !self.is_judged_at_its_end()
            {
                if contains(&reading.kept, text.as_bytes()) {
                    return Ok(());
                }
                let tail = text.len().saturating_sub(1);
                let done = reading.kept.len().saturating_sub(tail);
                reading.kept.drain(..done);
            }
            if chunk.len() > room {
                return self.judge_body(reading, true);
            }
        }
    }

    fn judge_body(&self, reading: Reading, truncated: bool) -> Result<(), Failure> {
        let fail = |wanted| {
            Err(Failure::Body {
                wanted,
                searched: reading.received,
                truncated,
            })
        };
        if let Some(text) = &self.text
            && !contains(&reading.kept, text.as_bytes())
        {
            return fail(BodyWanted::Text(text.clone()));
        }
        if let Some(pattern) = &self.pattern
            && !pattern.matches(&reading.kept)
        {
            return fail(BodyWanted::Match(pattern.as_str().to_owned()));
        }
        if let Some(wanted) = &self.sha256 {
            let got = reading.sum.finalize();
            if truncated || got.as_slice() != wanted {
                return fail(BodyWanted::Sha256 {
                    wanted: hexadecimal(wanted),
                    got: hexadecimal(&got),
                });
            }
        }
        Ok(())
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    needle.is_empty()
        || haystack
            .windows(needle.len())
            .any(|window| window == needle)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
