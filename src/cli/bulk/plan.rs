//! What the options of `bulk` say: an audience, a start frame, a results file.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::audience::{Audience, Columns, Format, Source};
use super::options::{ActionOptions, RECIPIENT_COLUMN_DEFAULT, SendOptions};
use super::results::ResultsFile;
use crate::api::pb;
use crate::api::pb::action::Kind;
use crate::cli::kinds::RecipientKind;
use crate::cli::message_options::read_text;

/// A bulk that can be run.
#[derive(Debug)]
pub(in crate::cli) struct Plan {
    pub(super) audience: Audience,
    pub(super) start: pb::BulkStart,
    pub(in crate::cli) results: ResultsFile,
    /// How long to try for a new stream, after one that ended early, without any result.
    pub(super) reconnect_timeout: Duration,
}

impl Plan {
    /// One text for a CSV audience, with defaults for everything else, and without reconnecting.
    pub(in crate::cli) fn text(audience: PathBuf, text: &str, results: ResultsFile) -> Self {
        let columns = Columns {
            recipient: RECIPIENT_COLUMN_DEFAULT.to_owned(),
            recipient_kind: RecipientKind::Id,
            item_id: None,
        };
        let text = pb::TextMessage { text: text.to_owned(), extras: None };
        let options = pb::SendOptions {
            messaging_type: pb::MessagingType::Update.into(),
            ..pb::SendOptions::default()
        };
        Self {
            audience: Audience { source: Source::File(audience), format: Format::Csv, columns },
            start: pb::BulkStart {
                action: Some(pb::Action { kind: Some(Kind::Text(text)) }),
                options: Some(options),
                ..pb::BulkStart::default()
            },
            results,
            reconnect_timeout: Duration::ZERO,
        }
    }

    /// The audience's file.
    pub(in crate::cli) fn audience_name(&self) -> String {
        match &self.audience.source {
            Source::File(path) => path.display().to_string(),
            Source::Stdin => "-".to_owned(),
        }
    }
}

impl SendOptions {
    /// The plan for an audience.
    ///
    /// # Errors
    /// If the format is not known, or a file that an option names cannot be used.
    pub(super) fn plan(&self, file: &Path) -> anyhow::Result<Plan> {
        let source = match file {
            path if path == Path::new("-") => Source::Stdin,
            path => Source::File(path.to_owned()),
        };
        let audience = Audience {
            format: self.audience.format.map_or_else(|| Format::of(file), Ok)?,
            columns: Columns {
                recipient: self.audience.recipient_column.clone(),
                recipient_kind: self.audience.recipient_kind,
                item_id: self.audience.item_id_column.clone(),
            },
            source,
        };
        let expire_in = self.run.expire_in_s.map(|seconds| Duration::from_secs(seconds.into()));
        let start = pb::BulkStart {
            bulk_id: self.run.bulk_id.clone().unwrap_or_default(),
            page_id: self.message.page_id.clone().unwrap_or_default(),
            action: Some(pb::Action { kind: self.action.kind()? }),
            options: Some(self.message.send_options()),
            expire_time: expire_in
                .and_then(|expire_in| SystemTime::now().checked_add(expire_in))
                .map(Into::into),
            on_unknown: pb::bulk_start::OnUnknown::from(self.run.on_unknown).into(),
            ..pb::BulkStart::default()
        };
        let results = ResultsFile {
            path: self.run.results.clone().unwrap_or_else(|| ResultsFile::path_for(&audience.source)),
            overwrite: self.run.overwrite,
        };
        let reconnect_timeout = Duration::from_secs(self.run.reconnect_timeout_s.into());
        Ok(Plan { audience, start, results, reconnect_timeout })
    }
}

impl ActionOptions {
    fn kind(&self) -> anyhow::Result<Option<Kind>> {
        let extras = self
            .metadata
            .clone()
            .map(|metadata| pb::MessageExtras { metadata, ..pb::MessageExtras::default() });
        if let Some(text) = &self.text {
            return Ok(Some(Kind::Text(pb::TextMessage { text: text.clone(), extras })));
        }
        if let Some(path) = &self.text_file {
            // Editors end a file with a newline that is not meant to be sent.
            let text = read_text(path)?.trim_end_matches(['\r', '\n']).to_owned();
            return Ok(Some(Kind::Text(pb::TextMessage { text, extras })));
        }
        if let Some(path) = &self.template_file {
            let content = pb::template_message::Content::PayloadJson(read_text(path)?);
            return Ok(Some(Kind::Template(pb::TemplateMessage { content: Some(content), extras })));
        }
        if let Some(action) = self.sender_action {
            let action = pb::sender_action::Type::from(action);
            return Ok(Some(Kind::SenderAction(pb::SenderAction { r#type: action.into() })));
        }
        let url = self.media_url.clone().map(pb::media_message::Source::Url);
        let held = self.attachment_id.clone().map(pb::media_message::Source::AttachmentId);
        Ok(self.media_type.map(|media_type| {
            Kind::Media(pb::MediaMessage {
                r#type: pb::media_message::Type::from(media_type).into(),
                source: url.or(held),
                is_reusable: None,
                extras,
            })
        }))
    }
}
