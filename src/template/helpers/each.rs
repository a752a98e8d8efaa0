//! `each`: loops over lists.

use crate::template::budget::OverBudget;
use crate::template::error::RenderError;
use crate::template::item::{Item, List};
use crate::template::render::Renderer;
use crate::template::scope::{Frame, Iteration, step};
use crate::template::syntax::{Call, Path, Prepared};

/// What `each` does with an element first: its option `apply`.
#[derive(Debug)]
pub(crate) enum Apply {
    SkipIfNull,
    SkipIf(Path),
    SkipUnless(Path),
    /// Loop over this part of the elements.
    Map(Path),
}

impl Apply {
    pub(super) const EXPECTED: &str =
        "expected 'skipIfNull', 'skipIf:name', 'skipUnless:name' or 'map:name' in apply=…";

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let named = |prefix: &str| text.strip_prefix(prefix).map(Path::parse);
        if text == "skipIfNull" {
            return Ok(Self::SkipIfNull);
        }
        if let Some(path) = named("skipIf:") {
            return path.map(Self::SkipIf);
        }
        if let Some(path) = named("skipUnless:") {
            return path.map(Self::SkipUnless);
        }
        named("map:").unwrap_or_else(|| Err(Self::EXPECTED.to_owned())).map(Self::Map)
    }
}

impl<'a> Renderer<'a> {
    /// `each a b …`: the lists one after another with one index; no operand is `this`; a missing list is
    /// empty.
    pub(super) fn each(&mut self, call: &'a Call) -> Result<(), RenderError> {
        let operands = match call.operands.as_slice() {
            [] => vec![self.scope.this()],
            operands => {
                operands.iter().map(|operand| self.evaluate(call, operand)).collect::<Result<_, _>>()?
            }
        };
        let mut lists: Vec<List<'a>> = Vec::with_capacity(operands.len());
        for item in operands.iter().filter(|item| !item.is_missing()) {
            let list = item.list();
            lists.push(list.ok_or_else(|| call.misuse(format!("expected a list, found {}", item.kind())))?);
        }
        if !matches!(call.prepared, Prepared::Apply(_))
            && self.option(call, "apply")?.is_some_and(|item| !item.is_missing())
        {
            return Err(call.misuse(Apply::EXPECTED));
        }
        let with_metadata =
            !self.option(call, "omitMeta")?.is_some_and(|item| item.text().eq_ignore_ascii_case("true"));
        let size = lists.iter().map(List::len).sum();
        let mut position = 0;
        for list in &lists {
            for index in 0..list.len() {
                let iteration = with_metadata.then_some(Iteration { position, size });
                self.element(call, list.get(index), iteration)?;
                position += 1;
            }
        }
        Ok(())
    }

    fn element(
        &mut self,
        call: &'a Call,
        item: Item<'a>,
        iteration: Option<Iteration>,
    ) -> Result<(), RenderError> {
        self.budget.charge(1).map_err(|exceeded| call.error(exceeded))?;
        let Some(item) = self.applied(call, item).map_err(|exceeded| call.error(exceeded))? else {
            return Ok(());
        };
        let Some(iteration) = iteration else {
            return self.body_with(call, Frame::Value(item));
        };
        let alias = call.literal_option("as").map(|name| (name, item.clone()));
        self.scope.frames.push(Frame::Iteration { iteration, alias });
        self.body_with(call, Frame::Value(item))?;
        self.scope.frames.pop();
        Ok(())
    }

    /// The element after `apply`; none if it is skipped. Names are looked up in the element alone.
    fn applied(&mut self, call: &'a Call, item: Item<'a>) -> Result<Option<Item<'a>>, OverBudget> {
        let Prepared::Apply(apply) = &call.prepared else { return Ok(Some(item)) };
        Ok(match apply {
            Apply::SkipIfNull => Some(item).filter(|item| !item.is_missing()),
            Apply::SkipIf(path) => (!self.part(&item, path)?.is_truthy()).then_some(item),
            Apply::SkipUnless(path) => self.part(&item, path)?.is_truthy().then_some(item),
            Apply::Map(path) => Some(self.part(&item, path)?),
        })
    }

    fn part(&mut self, item: &Item<'a>, path: &'a Path) -> Result<Item<'a>, OverBudget> {
        let mut found = item.clone();
        for part in path.parts() {
            self.budget.charge(1)?;
            found = step(&found, part, &mut self.budget)?;
        }
        Ok(found)
    }
}
