//! STS's adapter: whose credentials these are. The only file that names its SDK.

use aws_sdk_sts::Client;

use crate::aws::error::{garbled, sent};
use crate::ports::Call;

/// Account and ARN of the caller.
///
/// # Errors
/// There are no credentials, or they are not valid.
pub async fn caller(client: &Client) -> Call<(String, String)> {
    let action = "sts:GetCallerIdentity";
    let identity = sent(action, client.get_caller_identity().send()).await?;
    let text = |text: Option<&str>| text.map(str::to_owned).ok_or_else(|| garbled(action, "no account or no ARN"));
    Ok((text(identity.account())?, text(identity.arn())?))
}
