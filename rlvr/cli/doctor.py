"""`rlvr doctor`: is this machine, or cluster, fit to run, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlvr.cluster.finding import Finding

MARKS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "fault": "[bold red]FAULT[/bold red]"}


def doctor(address: str | None = None, runs_dir: str = "runs", as_json: bool = False) -> int:
    """Prints every finding with its remedy; 0 where nothing stands in the way of a run, else 1."""
    from rlvr.cluster.doctor import examine

    console = Console()
    if as_json:
        findings = list(examine(address, runs_dir))
        console.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        with Console(stderr=True).status("Looking (half a minute; a cold start of the stack takes longer)"):
            findings = list(examine(address, runs_dir))
        show(findings, console)
    return int(any(finding.level == "fault" for finding in findings))


def show(findings: Iterable[Finding], console: Console) -> None:
    """A table per node, remedies under what they mend, and the verdict."""
    findings = list(findings)
    for node in dict.fromkeys(finding.node for finding in findings):
        table = Table(
            title=node or "rlvr doctor", title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold"
        )
        table.add_column()
        table.add_column("check", overflow="fold", max_width=30)
        table.add_column("found", overflow="fold")
        for finding in findings:
            if finding.node == node:
                found = Text(finding.found)
                if finding.level != "ok":
                    found.append(f"\n→ {finding.remedy}", style="bold")
                table.add_row(MARKS[finding.level], finding.check, found)
        console.print(table)
        console.print()
    counts = {level: sum(finding.level == level for finding in findings) for level in MARKS}
    warnings = f"{counts['warning']} warning{'s' * (counts['warning'] != 1)}"
    if counts["fault"]:
        console.print(f"[bold red]{counts['fault']} fault{'s' * (counts['fault'] != 1)}[/bold red], {warnings}")
    else:
        console.print(f"[green]Ready[/green], {warnings}." if counts["warning"] else "[green]Ready.[/green]")
