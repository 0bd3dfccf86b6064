"""Where things lie in a laboratory's workspace; says names only, makes nothing."""

from dataclasses import dataclass
from pathlib import Path

SEALED_LABELS = "sealed.parquet"  # the file that `tables.read_table` opens for nobody


@dataclass(frozen=True)
class Workspace:
    """A laboratory's folder.

    >>> Workspace(Path("lab")).ledger.as_posix()
    'lab/ledger/ledger.jsonl'
    """

    root: Path

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def inbox(self) -> Path:
        """Where exports from the instrument arrive; read, never changed."""
        return self.root / "inbox"

    @property
    def quarantine(self) -> Path:
        """What intake refused, with reasons (`refused.csv`); outside git and DVC."""
        return self.root / "quarantine"

    # The data version: everything below `data/` is tracked by one DVC file.
    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def shards(self) -> Path:
        return self.data / "shards"

    @property
    def manifest(self) -> Path:
        return self.data / "manifest"

    @property
    def given_features(self) -> Path:
        """What the source itself measured (ACCEPT's feature table), one file a sample."""
        return self.data / "given_features"

    @property
    def clinical(self) -> Path:
        return self.data / "clinical.parquet"

    @property
    def ledger_snapshot(self) -> Path:
        """The ledger as this data version knew it: a folder of segments, one a version."""
        return self.data / "ledger"

    # The living record, outside DVC's checkout.
    @property
    def ledger(self) -> Path:
        return self.root / "ledger" / "ledger.jsonl"

    @property
    def ledger_head(self) -> Path:
        """Length and head hash of the ledger, committed to the workspace's git as an anchor."""
        return self.root / "ledger" / "head.json"

    # Made by stages of dvc.yaml.
    @property
    def derived(self) -> Path:
        return self.root / "derived"

    @property
    def truth(self) -> Path:
        return self.derived / "truth.parquet"

    @property
    def sealed(self) -> Path:
        """The labels of sealed patients, closed to everybody but the gate (`ctcml.sealed`)."""
        return self.derived / SEALED_LABELS

    @property
    def classes(self) -> Path:
        return self.derived / "classes.json"

    @property
    def roles(self) -> Path:
        """patient_uid -> train, steering or sealed."""
        return self.derived / "roles.json"

    @property
    def opinions(self) -> Path:
        """Every reading, those that settled nothing included."""
        return self.derived / "opinions.parquet"

    @property
    def features(self) -> Path:
        """ACCEPT's features as we measure them, one file a sample."""
        return self.derived / "features"

    @property
    def candidates(self) -> Path:
        """Cells inside a loose gate, in random review sets, and the pool for "other"."""
        return self.derived / "candidates.parquet"

    @property
    def evaluation(self) -> Path:
        """How the candidate does on steering patients."""
        return self.derived / "evaluation.json"

    @property
    def mistakes(self) -> Path:
        """The CTCs that the candidate missed there, and those that are none."""
        return self.derived / "mistakes.parquet"

    @property
    def embeddings(self) -> Path:
        return self.derived / "embeddings"

    @property
    def map(self) -> Path:
        return self.derived / "map.parquet"

    @property
    def cell_discovery(self) -> Path:
        return self.derived / "discovery.parquet"

    @property
    def clusters(self) -> Path:
        return self.derived / "clusters.parquet"

    @property
    def discovery_report(self) -> Path:
        """What discovery used, and which instruments' batches differ as a whole."""
        return self.derived / "discovery.json"

    @property
    def queue(self) -> Path:
        return self.derived / "queue.parquet"

    @property
    def calibration(self) -> Path:
        """What the champion's probabilities are worth, measured on settled cells of steering patients."""
        return self.derived / "calibration.json"

    @property
    def drift(self) -> Path:
        """Which instruments' samples no longer look like the training cells, and how the champion does on the random arm."""
        return self.derived / "drift.json"

    @property
    def drift_samples(self) -> Path:
        return self.derived / "drift.parquet"

    @property
    def counts(self) -> Path:
        return self.derived / "counts.parquet"

    @property
    def survival(self) -> Path:
        return self.derived / "survival.json"

    @property
    def by_hand(self) -> Path:
        """How the champion's CTCs compare with those that the instrument's operator called, event by event and tube by tube."""
        return self.derived / "by_hand.json"

    @property
    def by_hand_samples(self) -> Path:
        return self.derived / "by_hand_samples.parquet"

    @property
    def by_hand_cells(self) -> Path:
        """Events that the model, the operator, or both call a CTC."""
        return self.derived / "by_hand_cells.parquet"

    @property
    def subclasses(self) -> Path:
        """Counts per sample of the subclasses that the latent space holds; exploratory."""
        return self.derived / "subclasses.parquet"

    @property
    def subclass_cells(self) -> Path:
        return self.derived / "subclass_cells.parquet"

    @property
    def subclass_report(self) -> Path:
        return self.derived / "subclasses.json"

    @property
    def pictures(self) -> Path:
        """Plots and contact sheets made by stages."""
        return self.root / "pictures"

    @property
    def candidate(self) -> Path:
        """What `ctcml train` makes: weights.safetensors, model.json, history.json and pictures."""
        return self.root / "models" / "candidate"

    @property
    def chart(self) -> Path:
        """What `ctcml chart` makes: the candidate's flat maps (tsne.npz, umap.npz) and reducer.json, which hashes them."""
        return self.root / "models" / "chart"

    @property
    def replay(self) -> Path:
        """How well discovery finds hidden classes by the candidate's way, and what it should use."""
        return self.root / "models" / "replay.json"

    @property
    def champion(self) -> Path:
        """The model that was promoted; written by the promotion flow, read by the stages."""
        return self.root / "models" / "champion"

    @property
    def champion_chart(self) -> Path:
        """The flat maps that were registered with the champion."""
        return self.champion / "chart"

    @property
    def start(self) -> Path:
        """What the next training starts from: a copy of the champion at the time the round was closed, or nothing yet."""
        return self.root / "models" / "start"

    @property
    def start_clusters(self) -> Path:
        """The clusters as they were when the round was closed: what the next ones are named after."""
        return self.start / "clusters.parquet"

    @property
    def reports(self) -> Path:
        """Gate verdicts and other signed papers; committed to git."""
        return self.root / "reports"

    # The desk of the readers: made anew after each pull, from the living ledger; in neither git nor DVC.
    @property
    def review(self) -> Path:
        """The reading protocol, its example pictures, and the galleries of proposed classes."""
        return self.root / "review"

    @property
    def agreement(self) -> Path:
        return self.review / "agreement.json"

    @property
    def proposals(self) -> Path:
        """Classes that readers proposed, with evidence and votes."""
        return self.review / "proposals.json"

    @property
    def requests(self) -> Path:
        """What people signed on the dashboard; flows execute it."""
        return self.root / "ledger" / "requests.jsonl"

    @property
    def audit(self) -> Path:
        """Who looked at or exported data of patients; chained like the ledger, and apart from it."""
        return self.root / "ledger" / "audit.jsonl"

    @property
    def audit_head(self) -> Path:
        """Length and last hash of the audit log, signed anew with each entry."""
        return self.root / "ledger" / "audit-head.json"

    @property
    def paper(self) -> Path:
        """The paper's experiment on this workspace's data, as `ctcml reproduce` wrote it."""
        return self.reports / "paper"

    @property
    def paper_networks(self) -> Path:
        """The networks of the paper's experiment, each kept until its cells change, so that none is trained twice."""
        return self.private / "paper"

    # Private: never in git, DVC, logs or models.
    @property
    def private(self) -> Path:
        return self.root / ".ctcml"

    @property
    def key(self) -> Path:
        """The secret from which all pseudonyms are made (mode 0600)."""
        return self.private / "key"

    @property
    def access(self) -> Path:
        """Who may read, review or sign on the dashboard, by the address that the identity provider vouches for (mode 0600)."""
        return self.private / "access.yaml"

    @property
    def sign_in(self) -> Path:
        """Which identity provider vouches for visitors of the dashboard, in the form of Streamlit's secrets (mode 0600)."""
        return self.private / "streamlit" / "secrets.toml"

    @property
    def checkpoints(self) -> Path:
        return self.private / "checkpoints"

    @property
    def kept_embeddings(self) -> Path:
        """What models said of samples, a folder a model, so that nothing is computed twice; `ctcml.archive` keeps it."""
        return self.private / "embeddings"

    @property
    def receipts(self) -> Path:
        """Size and time of the files of each sample that was taken in, so that the same export is recognised at once."""
        return self.private / "receipts"

    @property
    def deployment(self) -> Path:
        """Databases, buckets and workers apart from this folder, with their passwords (mode 0600); most workspaces have none."""
        return self.private / "deployment.yaml"

    @property
    def preview(self) -> Path:
        """What a challenger says of the archive, while the gate looks at it."""
        return self.private / "preview"

    @property
    def services(self) -> Path:
        """Homes, logs and pids of the servers that we start."""
        return self.private / "services"
