//! STS's adapter: whose credentials these are. The only file that names its SDK.

use aws_sdk_sts::Client;

use crate::aws::error::{garbled, sent};
use crate::ports::{Call, CallError, Fault};

/// Account and ARN of the caller.
///
/// # Errors
/// There are no credentials, or they are not valid.
pub async fn caller(client: &Client) -> Call<(String, String)> {
    let action = "sts:GetCallerIdentity";
    let identity = sent(action, client.get_caller_identity().send()).await.map_err(with_advice)?;
    let text = |text: Option<&str>| text.map(str::to_owned).ok_or_else(|| garbled(action, "no account or no ARN"));
    Ok((text(identity.account())?, text(identity.arn())?))
}

/// It is the first call: what is wrong with the way to AWS, or with the credentials, shows here.
fn with_advice(mut error: CallError) -> CallError {
    let advice = match error.fault {
        Fault::Connection if error.message.contains("UnknownIssuer") => {
            "a proxy may answer in place of AWS: set AWS_CA_BUNDLE to the file with its certificate"
        }
        Fault::Connection | Fault::TimedOut => "check the region, the network and HTTPS_PROXY",
        Fault::Denied => "get new credentials, or choose others with --profile",
        _ => return error,
    };
    error.message = format!("{}; {advice}", error.message);
    error
}
