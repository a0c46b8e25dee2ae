//! What the file says for all virtual servers, and each of them may say otherwise.

use std::time::Duration;

use super::super::notes::Notes;
use super::directive::Directive;

/// `None`: not said.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) check_timeout: Option<Duration>,
    pub(super) negotiate_timeout: Option<Duration>,
    pub(super) interval: Option<Duration>,
    pub(super) check_count: Option<u32>,
    pub(super) failure_count: Option<u32>,
    pub(super) quiescent: Option<bool>,
    pub(super) fallback: Option<Directive>,
    pub(super) fallback_command: Option<Directive>,
}

/// Mail is not sent.
pub(super) fn no_mail(line: &Directive, notes: &mut Notes) {
    let help = "write a [[notify]] with a command or a webhook";
    line.lost(notes, "vipd sends no mail", help);
}

impl Settings {
    /// Reads a directive; `false`: it is none of these.
    pub(super) fn read(&mut self, line: &Directive, notes: &mut Notes) -> bool {
        let mut seconds = |line: &Directive| {
            let seconds = line.number(notes)?;
            Some(Duration::from_secs(seconds.into()))
        };
        match line.key.as_str() {
            "checktimeout" => self.check_timeout = seconds(line),
            "negotiatetimeout" => self.negotiate_timeout = seconds(line),
            "checkinterval" => self.interval = seconds(line),
            "checkcount" => self.check_count = line.number(notes),
            "failurecount" => self.failure_count = line.number(notes),
            "quiescent" => self.quiescent = line.yes(notes),
            "readdquiescent" => line.idle(notes, "vipd puts back what is missing, always"),
            "fallback" | "fallback6" => self.fallback = Some(line.clone()),
            "fallbackcommand" => self.fallback_command = Some(line.clone()),
            "emailalert" | "emailalertfreq" | "emailalertstatus" => no_mail(line, notes),
            _ => return false,
        }
        true
    }

    /// These where they say something, else `around`. Each of the two timeouts stands in for the other.
    pub(super) fn within(self, around: &Settings) -> Settings {
        let (own, other) = (self.check_timeout, self.negotiate_timeout);
        let (outer, outer_other) = (around.check_timeout, around.negotiate_timeout);
        Settings {
            check_timeout: own.or(other).or(outer).or(outer_other),
            negotiate_timeout: other.or(own).or(outer_other).or(outer),
            interval: self.interval.or(around.interval),
            check_count: self.check_count.or(around.check_count),
            failure_count: self.failure_count.or(around.failure_count),
            quiescent: self.quiescent.or(around.quiescent),
            fallback: self.fallback.or_else(|| around.fallback.clone()),
            fallback_command: self
                .fallback_command
                .or_else(|| around.fallback_command.clone()),
        }
    }

    /// How long a connection may take.
    pub(super) fn connecting(&self) -> Duration {
        self.check_timeout.unwrap_or(Duration::from_secs(5))
    }

    /// The same of a request and its answer.
    pub(super) fn negotiating(&self) -> Duration {
        self.negotiate_timeout.unwrap_or(Duration::from_secs(30))
    }
}
