"""What the scripts leave behind: labels, scores, suspects, accuracies, comparisons."""
