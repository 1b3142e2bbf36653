"""What the scripts here have in common: each step calls a function of a program and prints what came of it, a line of JSON, so that two runs can be compared."""
import json
import os
import random
import warnings

warnings.filterwarnings('ignore')

LIMIT = 1 << 30
PASSWORD = 'horse'


def some(items):
    """All of them, or a few that are drawn anew for each seed where the budget is small: each step starts programs."""
    items = list(items)
    if float(os.environ.get('MORAINE_BUDGET', '1')) >= 1:
        return items
    return random.Random(f"{os.environ.get('MORAINE_SEED')} {items}").sample(items, min(3, len(items)))


IMAGES = some(sorted(name for name in os.listdir('.') if name.startswith('is-')))


def at(name):
    """Programs want whole paths."""
    return os.path.join(os.getcwd(), name)


def shown(value):
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): shown(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(one) for one in value]
    try:
        return {key: shown(one) for key, one in vars(value).items()}
    except TypeError:
        return str(value)


def step(name, function, *args, **kwargs):
    try:
        told = {'value': shown(function(*args, **kwargs))}
    except Exception as error:  # whatever the program says when qemu-img fails
        told = {'error': type(error).__name__, 'message': str(error)}
    print(json.dumps({'step': name, **told}, sort_keys=True), flush=True)
