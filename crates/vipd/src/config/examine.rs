//! A file as a person looks at it (`vipd check`): what the daemon would take from it, what it would be
//! warned of, and where that stands.

use std::ops::Range;
use std::path::Path;

use toml::de::DeTable;

use super::locate::{self, Step};
use super::{Config, LoadError, Problems, lint, load, problem, secret};

/// A valid file. (Not to be printed as it is: it has the secrets.)
pub struct Examined {
    /// What it says.
    pub config: Config,
    /// What is hardly meant.
    pub warnings: Problems,
    pub(super) file_name: String,
    /// As it is, with its secrets: for places only.
    source: String,
    /// What may be shown.
    pub(super) shown: String,
}

/// Where something stands, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) span: Range<usize>,
}

impl Examined {
    /// Reads a file, and asks this host about what it names.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<Examined, LoadError> {
        let source = load::read(path).map_err(|error| LoadError::Read {
            path: path.to_owned(),
            error,
        })?;
        let file_name = path.display().to_string();
        let config = Config::parse(&source, &file_name).map_err(LoadError::Invalid)?;
        let (root, _) = DeTable::parse_recoverable(&source);
        let root = root.get_ref();
        let secrets = secret::parsed(&source, root);
        let written = |steps: &[Step]| {
            let found = locate::first(root, &[steps.to_vec()]);
            let text = source.get(found.span).filter(|_| found.written)?;
            Some(text.trim_matches(['"', '\'']).to_owned())
        };
        let mut lints = config.lints();
        lints.extend(lint::on_host(&config, path, &written));
        let place = |lint: lint::Lint| {
            let found = locate::first(root, &lint.places);
            let found = problem::Found {
                span: found.span,
                key: found.key,
                message: lint.message,
                help: lint.help,
                also: None,
            };
            (found, lint.name)
        };
        let found = lints.into_iter().map(place).collect();
        let warnings = Problems::warnings(&file_name, &source, &secrets, found);
        let shown = secret::hide(&source, &secrets);
        Ok(Examined {
            config,
            warnings,
            file_name,
            source,
            shown,
        })
    }

    /// Where a value stands, or what it would stand in.
    pub(super) fn place(&self, steps: &[Step]) -> Place {
        let (root, _) = DeTable::parse_recoverable(&self.source);
        let found = locate::first(root.get_ref(), &[steps.to_vec()]);
        let lines = problem::LineStarts::of(&self.source);
        let (line, column) = lines.position(&self.source, found.span.start);
        Place {
            key: found.key,
            line,
            column,
            span: found.span,
        }
    }
}
