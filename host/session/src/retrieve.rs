//! Carrying out retrievals. They reach nothing outside, so nothing is journalled before them; what was found is, after the guardrail.

use crate::{
    bodies::{NotFound, Passage},
    chat::Run,
    conversation::Found,
    event::Citation,
};
use ambit_capabilities::{
    agent::{Failure, Query, RetrieveRequest},
    guardrail::Stage,
    retrieval::{self, judged},
};
use ambit_policy::Access;
use ambit_types::{CollectionName, Error};
use futures::future::join_all;
use serde_json::json;

/// Bytes of a query that are searched for: a message may be megabytes long, and an agent may search for it many times.
const QUERY_BYTES: usize = 64 << 10;

/// What of it.
fn searched(query: &str) -> &str {
    &query[..query.floor_char_boundary(QUERY_BYTES)]
}

impl Run {
    pub(crate) async fn retrieve(&mut self, requests: &[RetrieveRequest]) -> Result<(), Error> {
        if self.tape.is_some() {
            return self.play(requests);
        }
        let mut queries = Vec::with_capacity(requests.len());
        for request in requests {
            let text = match &request.query {
                Query::Message(id) => self.progress.conversation.text(*id)?,
                Query::Text(text) => text,
            };
            queries.push(searched(text).to_owned());
        }
        let found = join_all(
            requests
                .iter()
                .zip(queries)
                .map(|(request, text)| self.search(request, text)),
        )
        .await;
        for (request, found) in requests.iter().zip(found) {
            match found {
                Ok(passages) => self.keep_passages(&request.collection, passages).await?,
                Err(failure) => {
                    let facts = [("effect", json!("retrieve")), ("code", json!(failure.code))];
                    let body = NotFound {
                        collection: request.collection.clone(),
                        message: failure.message.clone(),
                    };
                    self.recorder.note("outcome", &facts, &body)?;
                    self.progress.retrieved(Err(failure))?;
                }
            }
        }
        Ok(())
    }

    /// What the journal has of retrievals that are made again, judged when they were made.
    fn play(&mut self, requests: &[RetrieveRequest]) -> Result<(), Error> {
        for request in requests {
            let Some((_, tape)) = &mut self.tape else {
                return Err(Error::internal("a replay without a tape"));
            };
            let found = tape.found(&request.collection);
            let code = found
                .as_ref()
                .map_or_else(|f| f.code.clone(), |_| "ok".into());
            let facts = [("effect", json!("retrieve")), ("code", json!(code))];
            match &found {
                Ok(found) => {
                    let body: Vec<_> = found.iter().map(Passage::from).collect();
                    self.recorder.note("outcome", &facts, &body)?;
                }
                Err(failure) => {
                    let body = NotFound {
                        collection: request.collection.clone(),
                        message: failure.message.clone(),
                    };
                    self.recorder.note("outcome", &facts, &body)?;
                }
            }
            self.progress.retrieved(found)?;
        }
        Ok(())
    }

    async fn search(
        &self,
        request: &RetrieveRequest,
        text: String,
    ) -> Result<Vec<retrieval::Passage>, Failure> {
        let failure = |code: &str, message: String| Failure {
            move_: "retrieve".into(),
            code: code.into(),
            message,
        };
        let collection: CollectionName = request
            .collection
            .parse()
            .map_err(|error: ambit_types::NameError| failure("invalid", error.to_string()))?;
        let ambit = self.ambit();
        let permit = ambit
            .collection(Access::Read, &collection)
            .map_err(|denied| failure("denied", denied.to_string()))?;
        let Some(retriever) = &self.tenant.retriever else {
            return Err(failure(
                "unavailable",
                "no retrieval component is bound".into(),
            ));
        };
        let max_results = request.max_passages.clamp(1, 50);
        let query = retrieval::Query {
            text,
            max_results,
            filter: None,
            mode: None,
        };
        let found = retriever
            .search(&self.context, &self.tenant.retrieval, &permit, &query)
            .await;
        found.map_err(|error| {
            // The component's own words may repeat the query.
            tracing::debug!(target: "ambit::guest", text = %error);
            let error = Error::from(error);
            tracing::warn!(code = error.code(), collection = %permit.name, "a retrieval failed");
            failure(error.code(), error.message().to_owned())
        })
    }

    /// Judges, numbers and keeps passages. What the guardrail rejects is left out, as if it had not been found.
    async fn keep_passages(
        &mut self,
        collection: &str,
        mut passages: Vec<retrieval::Passage>,
    ) -> Result<(), Error> {
        let texts = judged::texts(&mut passages)
            .into_iter()
            .map(|text| (Stage::Retrieved, text))
            .collect();
        let checked = self.guard.check_all(&mut self.recorder, texts).await?;
        let left = judged::apply(passages, checked);
        let mut found = Vec::with_capacity(left.len());
        for passage in left.into_iter().flatten() {
            let citation = Citation {
                number: self.progress.conversation.next_passage(),
                collection: collection.to_owned(),
                document: passage.document,
                title: passage.title,
                anchor: passage.anchor,
            };
            found.push(Found {
                citation,
                text: passage.text,
                score: passage.score,
            });
        }
        let facts = [("effect", json!("retrieve")), ("code", json!("ok"))];
        let body: Vec<_> = found.iter().map(Passage::from).collect();
        self.recorder.note("outcome", &facts, &body)?;
        self.progress.retrieved(Ok(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_query_the_beginning_is_searched_for() {
        assert_eq!(searched("where?"), "where?");
        // Two bytes each, after one: the cut would fall into a character.
        let long = format!("?{}", "ä".repeat(QUERY_BYTES));
        assert_eq!(searched(&long).len(), QUERY_BYTES - 1);
    }
}
