//! The centres that a person works with, by name: a file of their own, for it has tokens.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use url::Url;

use super::ApiError;
use crate::arguments::Global;

/// A centre, and how to be let in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    /// Its address.
    pub(crate) api: String,
    /// The token; none for a centre that lets everybody in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The authorities that its certificate is from, where they are not those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The namespace that is meant where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
}

/// All of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is meant where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Context {
    /// The address.
    pub(crate) fn base(&self) -> Result<Url, ApiError> {
        let url = Url::parse(&self.api).ok();
        let fits = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        url.filter(fits).ok_or_else(|| ApiError::Address { url: self.api.clone() })
    }

    /// The one that the arguments mean: an address of their own, or a context of the file.
    pub(crate) fn of(global: &Global) -> Result<Self, ApiError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (api, token) = (given(&global.api), given(&global.token));
        // A context that is named goes before variables that are set for good.
        let context = given(&global.context);
        if let (Some(api), None) = (&api, &context) {
            return Ok(Self { api: api.clone(), token, ..Self::default() });
        }
        let contexts = Contexts::read(global)?;
        let name = context.or(contexts.current).ok_or(ApiError::NoContext)?;
        contexts.contexts.get(&name).cloned().ok_or(ApiError::UnknownContext { name })
    }
}

impl Contexts {
    /// Where they are kept: in the user's configuration directory.
    pub(crate) fn file(global: &Global) -> Result<PathBuf, ApiError> {
        let directory = global.config_home.clone().filter(|path| path.is_absolute());
        let directory = directory.or_else(|| Some(global.home.clone()?.join(".config")));
        directory.map(|directory| directory.join("leveret/contexts.toml")).ok_or(ApiError::NoContext)
    }

    /// Those there are; none where there is no file.
    pub(crate) fn read(global: &Global) -> Result<Self, ApiError> {
        let file = Self::file(global)?;
        let wrong = |why: String| ApiError::Contexts { file: file.clone(), why };
        match fs::read_to_string(&file) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(error.message().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(error.to_string())),
        }
    }

    /// Writes them down, for nobody else to read.
    pub(crate) fn write(&self, global: &Global) -> Result<(), ApiError> {
        let file = Self::file(global)?;
        let wrong = |why: String| ApiError::Contexts { file: file.clone(), why };
        let text = toml::to_string(self).map_err(|error| wrong(error.to_string()))?;
        replace(&file, &text).map_err(|error| wrong(error.to_string()))
    }
}

/// In one step, so that nobody finds half of it.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(&new).and_then(|mut open| {
        open.write_all(text.as_bytes())?;
        open.sync_all()?;
        fs::rename(&new, file)
    });
    if written.is_err() {
        // Nothing is lost with it, and it has tokens.
        let _ = fs::remove_file(&new);
    }
    written
}
