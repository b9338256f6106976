//! What was counted beside what is allowed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::TOLERANCE_PERCENT;
use super::budget_file::Budgets;
use super::callgrind::Count;

/// A count this close to its budget leaves the budget as it is, so that an update shows what changed and no noise.
const NOISE_PERCENT: u64 = 1;

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Its name.
    pub(crate) scenario: String,
    /// What is allowed for one unit, if anybody said.
    pub(crate) budget: Option<u64>,
    /// What was counted, if the scenario exists.
    pub(crate) count: Option<Count>,
    /// What follows.
    pub(crate) verdict: Verdict,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As much as allowed, about.
    Within,
    /// So much less than allowed that the budget should be less.
    Under,
    /// More than allowed.
    Over,
    /// A scenario that nobody gave a budget.
    NoBudget,
    /// A budget for a scenario that does not exist.
    NoScenario,
}

impl Verdict {
    /// Whether it makes the command fail.
    pub(crate) fn fails(self) -> bool {
        match self {
            Self::Within | Self::Under => false,
            Self::Over | Self::NoBudget | Self::NoScenario => true,
        }
    }

    fn of(budget: Option<u64>, counted: Option<u64>) -> Self {
        let (budget, counted) = match (budget, counted) {
            (Some(budget), Some(counted)) => (budget, counted),
            (None, _) => return Self::NoBudget,
            (_, None) => return Self::NoScenario,
        };
        if is_further_than(TOLERANCE_PERCENT, budget, counted) {
            if counted > budget {
                Self::Over
            } else {
                Self::Under
            }
        } else {
            Self::Within
        }
    }

    fn remark(self) -> &'static str {
        match self {
            Self::Within => "",
            Self::Under => "more than 10 % under: the budget can be tightened",
            Self::Over => "OVER by more than 10 %",
            Self::NoBudget => "HAS NO BUDGET",
            Self::NoScenario => "THERE IS NO SUCH SCENARIO",
        }
    }
}

/// Every scenario that was counted or has a budget.
pub(crate) fn compare(budgets: &Budgets, counts: &BTreeMap<String, Count>) -> Vec<Comparison> {
    let scenarios: BTreeSet<_> = budgets.keys().chain(counts.keys()).collect();
    let compare_one = |scenario: &String| {
        let budget = budgets.get(scenario).copied();
        let count = counts.get(scenario).cloned();
        let counted = count.as_ref().map(|count| count.instructions);
        Comparison {
            scenario: scenario.clone(),
            budget,
            count,
            verdict: Verdict::of(budget, counted),
        }
    };
    scenarios.into_iter().map(compare_one).collect()
}

/// The budgets after an update: what was counted, or what was allowed where that is as good as the same.
pub(crate) fn updated(budgets: &Budgets, counts: &BTreeMap<String, Count>) -> Budgets {
    let budget = |(scenario, count): (&String, &Count)| {
        let kept = budgets
            .get(scenario)
            .copied()
            .filter(|budget| !is_further_than(NOISE_PERCENT, *budget, count.instructions));
        (scenario.clone(), kept.unwrap_or(count.instructions))
    };
    counts.iter().map(budget).collect()
}

/// A table for people.
pub(crate) fn table(comparisons: &[Comparison]) -> String {
    let mut text = String::new();
    let mut line = |scenario: &str, budget: &str, counted: &str, ratio: &str, rest: &str| {
        let line = format!("{scenario:<20} {budget:>10} {counted:>10} {ratio:>6}  {rest}");
        writeln!(text, "{}", line.trim_end()).expect("writing to a text cannot fail");
    };
    line("instructions", "budget", "counted", "ratio", "for one");
    for one in comparisons {
        let shown = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let (counted, unit) = match &one.count {
            Some(count) => (Some(count.instructions), count.unit.as_str()),
            None => (None, ""),
        };
        let ratio = match (one.budget, counted) {
            (Some(budget), Some(counted)) if budget > 0 => {
                let percent = (100 * counted + budget / 2) / budget;
                format!("{}.{:02}", percent / 100, percent % 100)
            }
            _ => String::new(),
        };
        line(
            &one.scenario,
            &shown(one.budget),
            &shown(counted),
            &ratio,
            &format!("{unit:<11} {}", one.verdict.remark()),
        );
    }
    text
}

fn is_further_than(percent: u64, budget: u64, counted: u64) -> bool {
    100 * budget.abs_diff(counted) > percent * budget
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<const N: usize>(counts: [(&str, u64); N]) -> BTreeMap<String, Count> {
        let count = |(scenario, instructions): (&str, u64)| {
            let unit = "message".to_owned();
            (scenario.to_owned(), Count { instructions, unit })
        };
        counts.into_iter().map(count).collect()
    }

    fn budgets<const N: usize>(budgets: [(&str, u64); N]) -> Budgets {
        budgets
            .into_iter()
            .map(|(scenario, budget)| (scenario.to_owned(), budget))
            .collect()
    }

    fn verdict(budget: u64, counted: u64) -> Verdict {
        compare(
            &budgets([("decode", budget)]),
            &counts([("decode", counted)]),
        )[0]
        .verdict
    }

    #[test]
    fn a_tenth_over_is_within_and_the_next_instruction_is_over() {
        assert_eq!(verdict(1000, 1000), Verdict::Within);
        assert_eq!(verdict(1000, 1100), Verdict::Within);
        assert_eq!(verdict(1000, 1101), Verdict::Over);
        assert!(Verdict::Over.fails());
    }

    #[test]
    fn a_tenth_under_is_within_and_less_is_told_without_failing() {
        assert_eq!(verdict(1000, 900), Verdict::Within);
        assert_eq!(verdict(1000, 899), Verdict::Under);
        assert!(!Verdict::Under.fails());
    }

    #[test]
    fn a_budget_of_nothing_allows_nothing() {
        assert_eq!(verdict(0, 1), Verdict::Over);
    }

    #[test]
    fn a_scenario_without_budget_fails_and_so_does_a_budget_without_scenario() {
        let compared = compare(&budgets([("gone", 10)]), &counts([("new", 10)]));
        let verdicts: Vec<_> = compared
            .iter()
            .map(|one| (one.scenario.as_str(), one.verdict))
            .collect();
        assert_eq!(
            verdicts,
            [("gone", Verdict::NoScenario), ("new", Verdict::NoBudget)]
        );
        assert!(verdicts.iter().all(|(_, verdict)| verdict.fails()));
    }

    #[test]
    fn an_update_takes_what_was_counted_but_for_noise() {
        let before = budgets([
            ("gone", 10),
            ("noise", 1000),
            ("faster", 1000),
            ("slower", 1000),
        ]);
        let counted = counts([
            ("noise", 1010),
            ("faster", 989),
            ("slower", 1011),
            ("new", 7),
        ]);
        let after = budgets([
            ("noise", 1000),
            ("faster", 989),
            ("slower", 1011),
            ("new", 7),
        ]);
        assert_eq!(updated(&before, &counted), after);
    }

    #[test]
    fn the_table_shows_every_scenario_with_what_is_wrong() {
        let compared = compare(
            &budgets([("fine", 1000), ("gone", 10), ("slow", 100)]),
            &counts([("fine", 1004), ("slow", 250)]),
        );
        assert_eq!(
            table(&compared),
            "instructions             budget    counted  ratio  for one\n\
             fine                       1000       1004   1.00  message\n\
             gone                         10                                THERE IS NO SUCH SCENARIO\n\
             slow                        100        250   2.50  message     OVER by more than 10 %\n"
        );
    }
}
