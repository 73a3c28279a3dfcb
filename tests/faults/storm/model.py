"""What must be on the node, and which changes may come next."""

URL = "https://127.0.0.1:8443/public.git"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
USERS, NAMES = ("u0", "u1", "u2"), ("w0", "w1", "w2")


class Model:
    """What must be on the node: users by name, workspaces by name."""

    def __init__(self):
        self.users, self.workspaces = {}, {}
        # The logins that have a crontab, which root has put there.
        self.crontabs = set()

    def dedicated(self, name):
        return self.users.get(name, {}).get("dedicated")

    def owned(self, user):
        return [name for name, one in self.workspaces.items() if one["user"] == user]

    def ends_user(self, method, params):
        """Tell whether a change deletes the user of its name, maybe with the workspace of that name."""
        name = params.get("name")
        whole = self.owned(name) == [name] and self.dedicated(name) and method == "workspace.delete"
        return whole or method == "user.delete"

    def ends_login(self, method, params):
        """Tell whether a change removes the login of its name."""
        name = params.get("name")
        if method == "user.delete":
            return name not in self.workspaces
        return method == "workspace.delete" and (name not in self.users or self.ends_user(method, params))

    def choices(self):
        """Yield (weight, method, params) of what may be done now."""
        active = [name for name, one in self.users.items() if one["state"] == "active"]
        for name in USERS:
            if name not in self.users:
                yield 3, "user.create", {"name": name, "ssh_keys": [KEY]}
        for name, one in self.users.items():
            if not self.owned(name) and not one["dedicated"]:
                yield 3, "user.delete", {"name": name}
            yield 1, "user.set_keys", {"name": name, "ssh_keys": [] if one["keys"] else [KEY]}
            yield 1, ("user.enable" if one["state"] == "disabled" else "user.disable"), {"name": name}
        for name in NAMES:
            if name not in self.workspaces and name not in self.users:
                yield 4, "workspace.create", {"name": name}
                yield 0.3, "workspace.create", {"name": name, "repo": {"url": URL}}
                for user in active:
                    yield 1, "workspace.create", {"name": name, "user": user}
        for name, one in self.workspaces.items():
            yield 2, "workspace.delete", {"name": name}
            for user in active:
                if user != one["user"]:
                    yield 1, "workspace.assign", {"name": name, "user": user}
                    if user not in one["shared"]:
                        yield 0.5, "workspace.share", {"name": name, "user": user}
            for user in one["shared"]:
                yield 0.5, "workspace.unshare", {"name": name, "user": user}
            if one["repos"]:
                yield 1, "repo.delete", {"workspace": name, "name": "public"}
            if self.users[one["user"]]["state"] != "active":
                continue
            if one["sandbox"]:
                yield 1, "sandbox.delete", {"workspace": name}
            else:
                yield 0.5, "sandbox.create", {"workspace": name, "limits": {"tasks": 100}}
            if not one["repos"]:
                yield 0.5, "repo.clone", {"workspace": name, "url": URL}

    def done(self, method, params):
        """Write down what a change that succeeded did."""
        name = params.get("name")
        workspace = self.workspaces.get(params.get("workspace", name))
        if method == "user.create":
            self.users[name] = {"state": "active", "keys": True, "dedicated": False}
        elif method == "user.delete":
            if self.ends_login(method, params):
                self.crontabs.discard(name)
            del self.users[name]
            for one in self.workspaces.values():
                one["shared"].discard(name)
        elif method == "user.set_keys":
            self.users[name]["keys"] = bool(params["ssh_keys"])
        elif method in ("user.disable", "user.enable"):
            self.users[name]["state"] = {"user.disable": "disabled", "user.enable": "active"}[method]
        elif method == "workspace.create":
            user, repos = params.get("user", name), ["public"] if "repo" in params else []
            if user == name:
                self.users[name] = {"state": "active", "keys": False, "dedicated": True}
            self.workspaces[name] = {"user": user, "sandbox": False, "repos": repos, "shared": set()}
        elif method == "workspace.delete":
            self.crontabs.discard(name)
            if self.ends_user(method, params):
                del self.users[name]
                for one in self.workspaces.values():
                    one["shared"].discard(name)
            del self.workspaces[name]
        elif method == "workspace.assign":
            workspace["user"] = params["user"]
            workspace["shared"].discard(params["user"])
        elif method in ("workspace.share", "workspace.unshare"):
            (workspace["shared"].add if method == "workspace.share" else workspace["shared"].discard)(params["user"])
        elif method.startswith("sandbox."):
            workspace["sandbox"] = method == "sandbox.create"
        else:
            workspace["repos"] = ["public"] if method == "repo.clone" else []
