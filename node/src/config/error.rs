//! What is wrong in a configuration, where, and what to do about it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In a file.
    File { name: Arc<str>, text: Arc<str>, span: Range<usize> },
    /// By an environment variable.
    Environment { variable: String },
}

impl Place {
    /// Line and column, from 1; columns count characters.
    fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, text, span } => {
                let (line, column) = Self::line_and_column(text, span.start);
                write!(f, "{name}:{line}:{column}")
            }
            Self::Environment { variable } => variable.fmt(f),
        }
    }
}

/// One mistake. `Display` gives `file:line:column: what is wrong`; as a [`Diagnostic`] it shows the lines themselves.
#[derive(Debug, Clone)]
pub struct ConfigError {
    message: String,
    places: Vec<(Place, String)>,
    source: Option<NamedSource<Arc<str>>>,
    hint: Option<String>,
}

impl ConfigError {
    /// A mistake without a place yet.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), places: Vec::new(), source: None, hint: None }
    }

    /// Adds a place; the first is where the mistake is, others are what it clashes with.
    pub(super) fn at(mut self, place: Place, label: impl Into<String>) -> Self {
        if let (Place::File { name, text, .. }, true) = (&place, self.places.is_empty()) {
            self.source = Some(NamedSource::new(name, Arc::clone(text)));
        }
        self.places.push((place, label.into()));
        self
    }

    /// Tells the place without showing the line.
    pub(super) fn unseen(mut self) -> Self {
        self.source = None;
        self
    }

    /// Says what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((place, _)) = self.places.first() {
            write!(f, "{place}: ")?;
        }
        self.message.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let Some((Place::File { name: shown, .. }, _)) = self.places.first() else { return None };
        let labels = self.places.iter().filter_map(move |(place, label)| match place {
            Place::File { name, span, .. } if name == shown => {
                let label = (!label.is_empty()).then(|| label.clone());
                Some(LabeledSpan::new_primary_with_span(label, span.clone()))
            }
            Place::File { .. } | Place::Environment { .. } => None,
        });
        Some(Box::new(labels))
    }
}

/// Every mistake found in one reading.
#[derive(Debug, Clone, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
