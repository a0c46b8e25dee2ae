//! How often is checked and how long is waited: what a virtual server says, a real server and a checker may
//! say otherwise.

use std::time::Duration;

use super::super::server::Check;
use super::block::Node;
use super::context::Context;

/// What is said; `None`: what stands around it counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    delay_loop: Option<Duration>,
    connect_timeout: Option<Duration>,
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    alpha: Option<bool>,
}

impl Pace {
    /// Reads a statement; `false`: it is not about this.
    pub(super) fn read(&mut self, line: &Node, cx: &mut Context<'_>) -> bool {
        match line.keyword() {
            "delay_loop" => self.delay_loop = cx.seconds(line),
            "connect_timeout" => self.connect_timeout = cx.seconds(line),
            "retry" => self.retry = cx.number(line, 0..=999),
            "delay_before_retry" => self.delay_before_retry = cx.seconds(line),
            "alpha" => self.alpha = Some(cx.boolean(line)),
            _ => return false,
        }
        true
    }

    /// This where it says something, else what stands around it.
    pub(super) fn within(self, around: Pace) -> Pace {
        Pace {
            delay_loop: self.delay_loop.or(around.delay_loop),
            connect_timeout: self.connect_timeout.or(around.connect_timeout),
            retry: self.retry.or(around.retry),
            delay_before_retry: self.delay_before_retry.or(around.delay_before_retry),
            alpha: self.alpha.or(around.alpha),
        }
    }

    /// A check that is made so, with keepalived's defaults for that checker.
    pub(super) fn check(self, kind: &'static str, checker: &str) -> Check {
        let interval = self.delay_loop.unwrap_or(Duration::from_secs(60));
        let timeout = match checker {
            "MISC_CHECK" => interval,
            _ => self.connect_timeout.unwrap_or(Duration::from_secs(5)),
        };
        let (retry, delay) = match checker {
            "MISC_CHECK" => (0, Duration::from_secs(1)),
            "DNS_CHECK" => (3, interval),
            "HTTP_GET" | "SSL_GET" => (1, Duration::from_secs(3)),
            _ => (1, Duration::from_secs(1)),
        };
        Check {
            kind,
            own: super::super::document::Keys::default(),
            interval,
            fast_interval: self.delay_before_retry.unwrap_or(delay),
            timeout,
            rise: 1,
            fall: self.retry.unwrap_or(retry).saturating_add(1),
            starts_up: self.alpha != Some(true),
            comment: None,
        }
    }
}
