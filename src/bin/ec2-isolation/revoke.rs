//! `isolate --revoke`: what comes after the isolation, and never stops it.

use std::collections::BTreeSet;

use ec2_isolation::operator::aws::iam::Iam;
use ec2_isolation::operator::{Isolated, Order, Revocation, Revoked, Trouble};
use serde::Serialize;

use crate::args::Output;
use crate::commands::{Program, confirm, say};
use crate::progress;

/// What else is wanted.
#[derive(Debug)]
pub struct Revoking<'a> {
    pub iam: &'a Iam,
    /// Beside those that are found.
    pub roles: BTreeSet<String>,
}

/// What became of one order.
#[derive(Debug, Serialize)]
pub struct Done {
    /// Nothing if the stack could not be asked for, or read.
    #[serde(flatten)]
    pub isolated: Option<Isolated>,
    /// Nothing if it was not asked for, or refused.
    pub revoked: Option<Revoked>,
}

impl Revoking<'_> {
    /// What is to be denied. Changes nothing.
    ///
    /// # Errors
    /// Something cannot be read.
    pub async fn find(&self, program: &Program, order: &Order) -> Result<Revocation, Trouble> {
        program.revocation(order, &self.roles, self.iam).await
    }

    /// Shows what is to be denied, asks, and denies it. Nothing if that came to nothing, which it says.
    pub async fn revoke(&self, program: &Program, order: &Order, yes: bool, output: Output) -> Option<Revoked> {
        let revoked = self.try_to_revoke(program, order, yes).await;
        match revoked {
            Ok(revoked) => {
                if output == Output::Text {
                    say(format!("{revoked}\n"));
                }
                Some(revoked)
            }
            Err(trouble) => {
                // Something was: the instances were isolated.
                let why = trouble.to_string();
                let why = why.trim_start_matches("nothing was changed: ");
                progress::complain(format_args!("no credentials were denied: {why}"));
                None
            }
        }
    }

    async fn try_to_revoke(&self, program: &Program, order: &Order, yes: bool) -> Result<Revoked, Trouble> {
        let revocation = self.find(program, order).await?;
        progress::say(revocation.to_string().trim_end());
        if !revocation.is_nothing() && !revocation.is_done() {
            confirm(yes, "Deny everything to what these instances have credentials of?").await?;
        }
        let watching = progress::Watching::new();
        program.revoke(&revocation, &|progress| watching.show(progress)).await
    }
}
