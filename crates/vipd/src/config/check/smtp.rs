//! `type = "smtp"`: a mail server greets, answers EHLO, and speaks TLS where asked.

use health::{CheckKind, SmtpSpec};

use super::super::section::Section;
use super::super::text;
use super::{Type, tls};

pub(super) const TYPE: Type = Type {
    name: "smtp",
    fall: super::FALL,
    keys: &["helo", "starttls"],
    tls: true,
    read,
};

fn read(s: &mut Section<'_>) -> Option<CheckKind> {
    let helo = s.maybe("helo", |v| v.parse(text::host_name));
    let starttls = tls::where_asked(s, "starttls");
    Some(CheckKind::Smtp(SmtpSpec {
        helo: helo?,
        starttls: starttls?,
    }))
}
