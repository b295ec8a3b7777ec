//! The layers of a configuration, and the way back from a key to the line that gave it.
//!
//! Every file is parsed on its own, so that each mistake in it has a span; then the layers are merged with the `config` crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place};
use super::raw::RawConfig;

const ENVIRONMENT_PREFIX: &str = "PHALANX_CONF";
const SEPARATOR: &str = "__";

/// One element of the way to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> From<&'a str> for Key<'a> {
    fn from(name: &'a str) -> Self {
        Key::Name(name)
    }
}

impl From<usize> for Key<'_> {
    fn from(index: usize) -> Self {
        Key::Index(index)
    }
}

/// One file.
#[derive(Debug)]
struct Document {
    name: Arc<str>,
    text: Arc<str>,
}

/// A file with everything layered over it.
#[derive(Debug)]
pub(super) struct Documents {
    /// Absolute path of the main file; empty for a text that is no file.
    pub file: PathBuf,
    /// An agent that is not installed on this host is no mistake: the file is only run by, not applied.
    pub agents_may_be_absent: bool,
    /// The merged values.
    pub raw: RawConfig,
    /// Lowest precedence first.
    layers: Vec<Document>,
    environment: Overrides,
}

/// The variables that override keys, by name.
type Overrides = BTreeMap<String, String>;

impl Documents {
    /// Reads a file, `conf.d/*.toml` beside it, and the environment.
    pub fn open(file: &Path) -> Result<Self, ConfigErrors> {
        Self::open_with(file, overrides())
    }

    /// Reads a file about the whole cluster as it is: what is layered over the file of a node has no place in it. None if it
    /// is not such a file.
    pub fn open_of_cluster(file: &Path) -> Result<Option<Self>, ConfigErrors> {
        let document = Document::read(file)?;
        if !document.parse()?.is_of_cluster() {
            return Ok(None);
        }
        Self::of_layers(file.to_owned(), vec![document], Overrides::new()).map(Some)
    }

    /// The same with these variables for an environment.
    pub fn open_with(file: &Path, environment: Overrides) -> Result<Self, ConfigErrors> {
        let mut layers = vec![Document::read(file)?];
        for path in drop_ins(file) {
            layers.push(Document::read(&path)?);
        }
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Self::of_layers(file, layers, environment)
    }

    /// A text that is compiled in. The environment is layered over it too.
    pub fn of_text(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        Self::of_layers(PathBuf::new(), vec![Document { name: name.into(), text: text.into() }], overrides())
    }

    /// A text that will stand in `file`.
    pub fn of_file_text(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let document = Document { name: file.to_string_lossy().into(), text: text.into() };
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        Self::of_layers(file, vec![document], Overrides::new())
    }

    fn of_layers(file: PathBuf, layers: Vec<Document>, environment: Overrides) -> Result<Self, ConfigErrors> {
        let mistakes: Vec<ConfigError> =
            layers.iter().filter_map(|layer| layer.parse().err()).flat_map(|errors| errors.0).collect();
        if !mistakes.is_empty() {
            return Err(ConfigErrors(mistakes));
        }
        let raw = merge(&layers, &environment).map_err(|error| environment_mistake(&error, &environment))?;
        Ok(Self { file, agents_may_be_absent: false, raw, layers, environment })
    }

    /// Where the value at `path` was given: the environment first, then the last file that has it; else the nearest table
    /// around it.
    pub fn place(&self, path: &[Key<'_>]) -> Place {
        if let Some(variable) = variable(path).filter(|variable| self.environment.contains_key(variable)) {
            return Place::Environment { variable };
        }
        for length in (1..=path.len()).rev() {
            let found = self.layers.iter().rev().find_map(|layer| layer.place(&path[..length]));
            if let Some(place) = found {
                return place;
            }
        }
        self.layers[0].begin()
    }

    /// Directory that relative paths are relative to.
    pub fn directory(&self) -> &Path {
        self.file.parent().unwrap_or_else(|| Path::new("/"))
    }
}

impl Document {
    fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let name: Arc<str> = path.to_string_lossy().into();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let error = ConfigError::new(format!("failed to read {name}: {error}"));
            ConfigErrors::from(error.hint("name a file that exists and may be read"))
        })?;
        Ok(Self { name, text: text.into() })
    }

    /// Parses this file alone: syntax, types, unknown and missing keys, each with its span.
    fn parse(&self) -> Result<RawConfig, ConfigErrors> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let place = Place::File { name: Arc::clone(&self.name), text: Arc::clone(&self.text), span };
            let unknown = error.message().starts_with("unknown field");
            let hint = if unknown {
                "remove the key, or correct its name; keys are listed in configs/node.toml"
            } else {
                "see configs/node.toml"
            };
            ConfigErrors::from(ConfigError::new(error.message()).at(place, "here").hint(hint))
        })
    }

    fn begin(&self) -> Place {
        Place::File { name: Arc::clone(&self.name), text: Arc::clone(&self.text), span: 0..0 }
    }

    fn place(&self, path: &[Key<'_>]) -> Option<Place> {
        let table = DeTable::parse(&self.text).ok()?;
        let mut span = table.span();
        let mut value = &DeValue::Table(table.into_inner());
        for key in path {
            let next = match key {
                Key::Name(name) => value.as_table()?.iter().find(|(key, _)| key.get_ref() == name)?.1,
                Key::Index(index) => value.as_array()?.get(*index)?,
            };
            (span, value) = (next.span(), next.get_ref());
        }
        Some(Place::File { name: Arc::clone(&self.name), text: Arc::clone(&self.text), span })
    }
}

fn drop_ins(file: &Path) -> Vec<PathBuf> {
    let directory = file.parent().unwrap_or_else(|| Path::new(".")).join("conf.d");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort();
    paths
}

/// Name of the variable that overrides a key; elements of arrays have none.
fn variable(path: &[Key<'_>]) -> Option<String> {
    let names = path.iter().map(|key| match key {
        Key::Name(name) => Some(name.to_uppercase()),
        Key::Index(_) => None,
    });
    let names = names.collect::<Option<Vec<_>>>()?;
    Some(format!("{ENVIRONMENT_PREFIX}{SEPARATOR}{}", names.join(SEPARATOR)))
}

fn merge(layers: &[Document], environment: &Overrides) -> Result<RawConfig, config::ConfigError> {
    let mut builder = config::Config::builder();
    for layer in layers {
        builder = builder.add_source(config::File::from_str(&layer.text, config::FileFormat::Toml));
    }
    let source = environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let environment = config::Environment::with_prefix(ENVIRONMENT_PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(source));
    builder.add_source(environment).build()?.try_deserialize()
}

/// The variables of this process that override keys; no other is configuration.
fn overrides() -> Overrides {
    let prefix = format!("{ENVIRONMENT_PREFIX}{SEPARATOR}");
    let variables =
        std::env::vars_os().filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    variables.filter(|(name, _)| name.starts_with(&prefix)).collect()
}

/// Every file was right on its own, so what is wrong came from the environment.
fn environment_mistake(error: &config::ConfigError, environment: &Overrides) -> ConfigError {
    let set = environment.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let prefix = format!("{ENVIRONMENT_PREFIX}{SEPARATOR}");
    ConfigError::new(format!("the environment overrides the configuration wrongly: {error} (set: {set})"))
        .hint(format!("a variable is named {prefix}<TABLE>{SEPARATOR}<KEY>, as in {prefix}DISK{SEPARATOR}PATH"))
}
