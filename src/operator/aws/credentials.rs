//! Whose credentials the operator's program uses: those that the AWS CLI would, looked for in its order and places.
//!
//! What the SDK cannot do (`aws login`, MFA) the AWS CLI does: it is asked for the credentials, as a `credential_process` is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_config::credential_process::CredentialProcessProvider;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{self, ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::{ProvideCredentials as _, SharedCredentialsProvider};

use crate::aws::error::innermost;
use crate::operator::aws::config::BadSettings;

/// What the SDK reads in the name of a profile beside letters and digits (aws-runtime, env_config/normalize.rs). A shell leaves it
/// alone.
const IN_A_NAME: &str = "_-/.%@:+";
/// Profiles may name each other in a ring.
const LONGEST_CHAIN: usize = 10;

/// The settings that say where the credentials of a profile come from.
const KINDS: [&str; 7] = [
    "aws_access_key_id",
    "credential_process",
    "login_session",
    "role_arn",
    "sso_session",
    "sso_start_url",
    "web_identity_token_file",
];

/// The AWS configuration of the person who runs the program.
#[derive(Debug)]
pub(super) struct Personal {
    /// `--profile`: it beats keys in the environment, which beat `AWS_PROFILE`.
    asked: Option<String>,
    /// The profile that counts if no keys in the environment do.
    chosen: String,
    profiles: ProfileSet,
}

impl Personal {
    /// Reads the files of the AWS CLI.
    ///
    /// # Errors
    /// They cannot be read, or do not have the profile.
    pub(super) async fn read(asked: Option<String>) -> Result<Self, BadSettings> {
        let (fs, env, files) = Default::default();
        let profiles = profile::load(&fs, &env, &files, asked.clone().map(Into::into)).await;
        let profiles = profiles.map_err(|error| BadSettings::Files(innermost(&error)))?;
        let chosen = profiles.selected_profile().to_owned();
        let is_named = asked.is_some() || variable("AWS_PROFILE").is_some();
        if is_named && !chosen.chars().all(|c| c.is_ascii_alphanumeric() || IN_A_NAME.contains(c)) {
            let cause = format!("only the AWS CLI can read a profile of the name {chosen:?}");
            return Err(BadSettings::NoCredentials { cause, advice: way_round(&format!("'{chosen}'")) });
        }
        if is_named && profiles.get_profile(&chosen).is_none() {
            return Err(BadSettings::NoProfile { name: chosen, places: places(), others: list(&profiles) });
        }
        Ok(Self { asked, chosen, profiles })
    }

    /// A file of certificates that are trusted beside those of the machine: a company's proxy has its own.
    pub(super) fn ca_bundle(&self) -> Option<String> {
        variable("AWS_CA_BUNDLE").or_else(|| self.profiles.get("ca_bundle").map(str::to_owned))
    }

    /// The configuration with credentials that were loaded once: what is wrong with them is known before anything is done, and a
    /// code is asked for outside of any call's time limit.
    ///
    /// # Errors
    /// There are none.
    pub(super) async fn log_in(&self, config: SdkConfig) -> Result<SdkConfig, BadSettings> {
        let provider = self.provider(&config)?;
        let loaded = provider
            .provide_credentials()
            .await
            .map_err(|error| BadSettings::NoCredentials { cause: self.cause(&error), advice: self.advice() })?;
        let first = Arc::new(Mutex::new(Some(loaded)));
        let provider = provide_credentials_fn(move || {
            let loaded = first.lock().ok().and_then(|mut first| first.take());
            let provider = provider.clone();
            async move {
                match loaded {
                    Some(loaded) => Ok(loaded),
                    None => provider.provide_credentials().await,
                }
            }
        });
        Ok(config.into_builder().credentials_provider(SharedCredentialsProvider::new(provider)).build())
    }

    fn provider(&self, config: &SdkConfig) -> Result<SharedCredentialsProvider, BadSettings> {
        let in_environment = self.asked.is_none() && variable("AWS_ACCESS_KEY_ID").is_some();
        if !in_environment && self.needs_cli() {
            return Ok(self.cli());
        }
        let Some(asked) = &self.asked else {
            return config.credentials_provider().ok_or(BadSettings::NoRegion);
        };
        let mut settings = ProviderConfig::without_region().with_region(config.region().cloned());
        if let Some(http) = config.http_client() {
            settings = settings.with_http_client(http);
        }
        if self.setting(&KINDS).is_some() {
            let profile = ProfileFileCredentialsProvider::builder().configure(&settings).profile_name(asked);
            return Ok(SharedCredentialsProvider::new(profile.build()));
        }
        // A profile that only names a region leaves the rest to the machine, as in CloudShell.
        let container = EcsCredentialsProvider::builder().configure(&settings).build();
        let instance = ImdsCredentialsProvider::builder().configure(&settings).build();
        let chain = CredentialsProviderChain::first_try("container", container).or_else("instance", instance);
        Ok(SharedCredentialsProvider::new(chain))
    }

    fn cli(&self) -> SharedCredentialsProvider {
        let name = &self.chosen;
        tracing::info!(profile = name, "the AWS CLI is asked for credentials");
        let command = format!("aws configure export-credentials --profile {name} --format process");
        SharedCredentialsProvider::new(CredentialProcessProvider::new(command))
    }

    /// The value of the first of these that the chosen profile has, or one of those that it takes its credentials from.
    fn setting(&self, names: &[&str]) -> Option<&str> {
        let mut next = Some(self.chosen.as_str());
        for _ in 0..LONGEST_CHAIN {
            let profile = self.profiles.get_profile(next?)?;
            if let Some(value) = names.iter().find_map(|name| profile.get(name)) {
                return Some(value);
            }
            next = profile.get("source_profile");
        }
        None
    }

    /// Whether the SDK lacks what the profile needs.
    fn needs_cli(&self) -> bool {
        let assumes_with_mfa = self.setting(&["mfa_serial"]).is_some() && self.setting(&["role_arn"]).is_some();
        assumes_with_mfa || self.setting(&["login_session"]).is_some()
    }

    fn cause(&self, error: &CredentialsError) -> String {
        let is_absent = matches!(error, CredentialsError::CredentialsNotLoaded(_));
        let is_there = self.profiles.get_profile(&self.chosen).is_some();
        if !is_there || is_absent && self.setting(&KINDS).is_none() {
            return format!("neither the environment nor profile {} in {} has any", self.chosen, places());
        }
        let cause = innermost(error);
        // What a process says of itself is all that helps.
        let said = cause.rsplit_once("Stderr: ").map_or(cause.as_str(), |(_, said)| said).trim();
        let is_old = self.needs_cli() && said.starts_with("usage:");
        format!("profile {}: {}", self.chosen, if is_old { "the AWS CLI on the PATH is too old" } else { said })
    }

    /// What makes the credentials of this kind of profile.
    fn advice(&self) -> String {
        let Self { chosen, .. } = self;
        if self.setting(&["sso_session", "sso_start_url"]).is_some() {
            format!("run: aws sso login --profile {chosen}")
        } else if self.setting(&["login_session"]).is_some() {
            format!("run: aws login --profile {chosen}; this needs the AWS CLI 2.32 or newer on the PATH")
        } else if self.needs_cli() {
            format!(
                "compare: aws sts get-caller-identity --profile {chosen}; mfa_serial needs the AWS CLI 2 on the PATH"
            )
        } else if self.setting(&["credential_process", "role_arn"]).is_some() {
            format!("compare: aws sts get-caller-identity --profile {chosen}; if this works, {}", way_round(chosen))
        } else {
            format!("choose a profile with --profile ({}), or make one: aws login", list(&self.profiles))
        }
    }
}

/// From the AWS CLI into the environment.
fn way_round(profile: &str) -> String {
    let command = format!("aws configure export-credentials --profile {profile}");
    let command = if cfg!(windows) {
        format!("{command} --format powershell | Invoke-Expression")
    } else {
        format!("eval \"$({command} --format env)\"")
    };
    format!("run: {command}, then leave out --profile")
}

/// A variable of the environment that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The files in which the AWS CLI looks.
fn places() -> String {
    [("AWS_CONFIG_FILE", "~/.aws/config"), ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")]
        .map(|(name, usual)| variable(name).unwrap_or_else(|| usual.to_owned()))
        .join(" and ")
}

fn list(profiles: &ProfileSet) -> String {
    let names: BTreeSet<_> = profiles.profiles().collect();
    if names.is_empty() { "there is none".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

/// Why no certificate of the file can be trusted, if so. The client panics over one that it cannot read.
pub(super) fn certificates(path: &str) -> Result<Vec<String>, BadSettings> {
    let unusable = |cause: String| BadSettings::Bundle { path: path.to_owned(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let blocks =
        text.split(begin).skip(1).filter_map(|rest| Some(format!("{begin}{}{end}\n", rest.split_once(end)?.0)));
    let readable: Vec<_> = blocks.filter(|block| is_readable(block)).collect();
    if readable.is_empty() { Err(unusable("it has no certificate in PEM format".to_owned())) } else { Ok(readable) }
}

fn is_readable(pem: &str) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let certificate: Result<CertificateDer<'static>, _> = CertificateDer::from_pem_slice(pem.as_bytes());
    certificate.is_ok_and(|certificate| rustls::RootCertStore::empty().add(certificate).is_ok())
}
